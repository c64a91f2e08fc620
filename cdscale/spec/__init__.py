"""What will exist, as frozen and validated data: runs, profiles, scenes, cubes, cards, tasks."""
