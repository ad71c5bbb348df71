"""What people write for a time zone that is none: an abbreviation, a city, a country, an offset; and the zone that they mean.

Zones are named by a city, since only a place says when its clocks are changed. A suggestion by spelling would lead elsewhere: `CEST` is
not `EST`. Read `zone_hint`.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Final
from zoneinfo import available_timezones

_ABBREVIATIONS: Final = {
    "Europe/Berlin": "CET CEST MEZ MESZ",
    "Europe/London": "BST GB UK",
    "Europe/Lisbon": "WEST WET",
    "Europe/Athens": "EET EEST",
    "Europe/Moscow": "MSK MSD",
    "Europe/Istanbul": "TRT",
    "America/New_York": "EST EDT ET EASTERN",
    "America/Chicago": "CDT CT CENTRAL",
    "America/Denver": "MST MDT MT MOUNTAIN",
    "America/Los_Angeles": "PST PDT PT PACIFIC",
    "America/Anchorage": "AKST AKDT",
    "America/Halifax": "AST ADT",
    "America/St_Johns": "NST NDT",
    "America/Sao_Paulo": "BRT BRST",
    "America/Argentina/Buenos_Aires": "ART",
    "Asia/Kolkata": "IST",
    "Asia/Shanghai": "CST BJT",
    "Asia/Hong_Kong": "HKT",
    "Asia/Singapore": "SGT",
    "Asia/Tokyo": "JST",
    "Asia/Seoul": "KST",
    "Asia/Dubai": "GST",
    "Asia/Karachi": "PKT",
    "Asia/Bangkok": "ICT",
    "Asia/Jakarta": "WIB",
    "Asia/Manila": "PHT PHST",
    "Asia/Jerusalem": "IDT",
    "Africa/Johannesburg": "SAST",
    "Africa/Nairobi": "EAT",
    "Africa/Lagos": "WAT",
    "Australia/Sydney": "AEST AEDT",
    "Australia/Adelaide": "ACST ACDT",
    "Australia/Perth": "AWST",
    "Pacific/Auckland": "NZST NZDT",
    "Pacific/Honolulu": "HST",
    "UTC": "Z ZULU UTC0 GMT0 UCT",
}
"""Abbreviations of the clocks of a zone. Where several zones share one, the one with the most people or devices."""

_AMBIGUOUS: Final = {"CST": "America/Chicago", "IST": "Europe/Dublin", "BST": "Asia/Dhaka", "AST": "Asia/Riyadh"}
"""Another zone with the same abbreviation."""

_PLACES: Final = {
    "Europe/Berlin": "germany deutschland munich muenchen münchen hamburg frankfurt cologne koeln köln stuttgart",
    "Europe/London": "england britain scotland wales manchester edinburgh birmingham",
    "Europe/Paris": "france lyon marseille",
    "Europe/Madrid": "spain barcelona",
    "Europe/Rome": "italy milan milano",
    "Europe/Vienna": "austria wien",
    "Europe/Zurich": "switzerland zürich geneva basel bern",
    "Europe/Amsterdam": "netherlands rotterdam",
    "Europe/Brussels": "belgium",
    "Europe/Warsaw": "poland krakow",
    "Europe/Prague": "czechia",
    "Europe/Stockholm": "sweden",
    "Europe/Oslo": "norway",
    "Europe/Copenhagen": "denmark",
    "Europe/Helsinki": "finland",
    "Europe/Kyiv": "ukraine",
    "Europe/Dublin": "ireland",
    "Asia/Shanghai": "china beijing peking shenzhen guangzhou hangzhou chengdu wuhan nanjing suzhou",
    "Asia/Tokyo": "osaka kyoto",
    "Asia/Seoul": "korea",
    "Asia/Kolkata": "india mumbai delhi new_delhi bangalore bengaluru chennai hyderabad",
    "Asia/Ho_Chi_Minh": "vietnam hanoi",
    "Asia/Jakarta": "indonesia",
    "Asia/Bangkok": "thailand",
    "Asia/Dubai": "abu_dhabi",
    "America/New_York": "boston washington miami atlanta philadelphia",
    "America/Chicago": "houston dallas austin",
    "America/Los_Angeles": "california san_francisco seattle san_diego las_vegas silicon_valley",
    "America/Toronto": "ottawa montreal",
    "America/Sao_Paulo": "rio_de_janeiro brasilia",
    "Australia/Sydney": "canberra",
    "Pacific/Auckland": "wellington",
    "Africa/Johannesburg": "cape_town pretoria",
}
"""Places that no zone is named by, with the zone whose clocks they have."""

_OFFSET: Final = re.compile(r"(?:UTC|GMT)?\s*([+-])\s*([0-9]{1,2})(?::?([0-9]{2}))?", re.IGNORECASE)
"""An offset, such as UTC+2 or +02:00."""


def zone_hint(name: str) -> str:
    """What to write instead of a name that is no time zone: `; did you mean `Europe/Berlin`?`, or nothing."""
    word = re.sub(r"[\s_-]+", "_", name.strip()[:100])
    exact = _by_case().get(word.lower()) or _by_case().get(name.strip().lower())
    if exact is not None:
        return f"; did you mean `{exact}`?"
    found = _abbreviations().get(word.upper())
    if found is not None:
        other = _AMBIGUOUS.get(word.upper())
        also = f" or `{other}`" if other is not None else ""
        return f"; did you mean `{found}`{also}?"
    if (offset := _OFFSET.fullmatch(name.strip())) is not None:
        return f": an offset knows no summer time; write the zone of a place{_fixed(offset)}"
    city = _cities().get(word.lower().rpartition("/")[2])
    if city is not None:
        return f"; did you mean `{city}`?"
    return _by_spelling(word)


def _fixed(offset: re.Match[str]) -> str:
    """The zone of a whole-hour offset. Its sign is the other way round, as in POSIX."""
    hours = int(offset[2])
    if int(offset[3] or 0) or hours > (14 if offset[1] == "+" else 12):
        return ""
    if not hours:
        return ", or UTC"
    return f", or `Etc/GMT{'-' if offset[1] == '+' else '+'}{hours}` for always UTC{offset[1]}{hours}"


def _by_spelling(word: str) -> str:
    """The zone, or the city of a zone, that is spelled nearly so. An abbreviation is too short to be spelled wrong."""
    if len(word) <= 5 and "/" not in word:
        return ""
    places = {name.lower(): name for name in available_timezones() if "/" in name and not name.startswith("Etc/")}
    names = places if "/" in word else _cities()
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.75)
    return f"; did you mean `{names[close[0]]}`?" if close else ""


@cache
def _by_case() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


@cache
def _abbreviations() -> dict[str, str]:
    return {word: zone for zone, words in _ABBREVIATIONS.items() for word in words.split()}


@cache
def _cities() -> dict[str, str]:
    """Zones by their city, and by other places. Of several names of one city the one without an old region."""
    found: dict[str, str] = {}
    for name in sorted(available_timezones(), reverse=True):
        region, _, rest = name.partition("/")
        if rest and region not in {"Etc", "US", "Brazil", "Canada", "Chile", "Mexico", "SystemV", "posix", "right"}:
            found[rest.rpartition("/")[2].lower()] = name
    for zone, places in _PLACES.items():
        found |= dict.fromkeys(places.split(), zone)
    return found
