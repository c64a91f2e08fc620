"""The evidence of a pixel in words: a sentence for each thing that somebody would ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Plain = dict[str, Any]
CHANGED = frozenset({"provisional", "confirmed", "high_confidence", "reverted", "finished"})


def reasons(told: Plain) -> list[str]:
    """Sentences about what :func:`cdscale.query.evidence.explain` found."""
    return list(_sentences(told))


def _sentences(told: Plain) -> Iterator[str]:
    state = told["state"]
    if state and "state" in state:
        yield _state(state)
    for month in told["months"]:
        if "change" in month and month["change"].get("probability") is not None:
            yield _pair(month["month"], month["change"], told["models"].get("change", {}))
        if "urban" in month:
            yield _urban(month, told["models"].get("urban", {}))
        elif month["optical"].get("quality") not in (None, "valid", "saturated"):
            yield f"{month['month']}: no optical value: {_why(month['optical'])}."
    for task, model in told["models"].items():
        on = "SIMULATED scenes" if model["trained_on_simulated_scenes"] else "real scenes"
        named = f"{model['name']} version {model['version']}"
        yield f"{task.capitalize()} by {named}, trained on {on}."
    if told["missing"]:
        yield f"Not beside the store: {', '.join(told['missing'])}."


def _state(state: Plain) -> str:
    """What the states say of a pixel by their last month."""
    name = str(state["state"])
    if name not in CHANGED:
        return f"{state['month']}: {name}: no change seen so far."
    kind = f"{state.get('from_class')} to {state.get('to_class')}"
    parts = [f"{state['month']}: {name} change, {kind}", f"first seen {state.get('first_month')}"]
    if state.get("confirmed_month"):
        parts.append(f"confirmed {state['confirmed_month']}")
    parts.append(f"{state.get('support')} observations support it")
    if state.get("confidence") is not None:
        parts.append(f"confidence {state['confidence']:.2f}")
    return ", ".join(parts) + "."


def _pair(month: str, change: Plain, model: Plain) -> str:
    since = f" since {change['reference_month']}" if "reference_month" in change else ""
    limit = f" (threshold {model['threshold']:g})" if model else ""
    named = f"{change.get('change')}, probability {change['probability']:.2f}{limit}"
    return f"{month}: the pair network says {named}{since}; {_words(change.get('quality'))}."


def _urban(month: Plain, model: Plain) -> str:
    urban, optical, radar = month["urban"], month["optical"], month["radar"]
    if urban.get("probability") is None:
        seen = f"optical: {_why(optical)}, radar: {_words(radar.get('quality'))}"
        return f"{month['month']}: not mapped; {seen}."
    limit = f" (threshold {model['threshold']:g})" if model else ""
    said = f"{month['month']}: built up with probability {urban['probability']:.2f}{limit}"
    if urban.get("quality") == "optical_reconstructed":
        return (
            f"{said}; the optical features were RECONSTRUCTED from radar, no optical value was "
            f"there ({_why(optical)}); radar: {_radar(radar)}."
        )
    shown = f"optical of {optical.get('seen_on')}" if optical.get("seen_on") else "optical"
    if urban.get("quality") == "radar_missing":
        return f"{said}; from {shown} alone, radar: {_words(radar.get('quality'))}."
    return f"{said}; from {shown} and radar: {_radar(radar)}."


def _why(optical: Plain) -> str:
    """Why there is no optical value."""
    quality, passes = optical.get("quality"), optical.get("passes")
    if quality == "cloud":
        return f"cloud in all of {passes} passes"
    return _words(quality)


def _radar(radar: Plain) -> str:
    values = [f"{band} {v:.1f} dB" for band, v in radar.get("dB", {}).items() if v is not None]
    days = f" ({', '.join(radar['seen'])})" if radar.get("seen") else ""
    return f"{', '.join(values) or 'no value'} from {radar.get('passes', 'unknown')} passes{days}"


def _words(code: Any) -> str:
    return str(code).replace("_", " ") if code else "not known"
