"""The most of everything that a peer can send, each with its reason. Beyond a bound the peer is refused, by name.

A bound is far above what an honest peer needs, and far below what would burn a core or fill the memory of whoever
reads it. The sizes of letters stand beside them, in `nomaflow_api.v1.letters`.
"""

from __future__ import annotations

# --- requests ---------------------------------------------------------------------------------------------------------

REQUEST_PARTS = 100_000
"""Messages, and values of lists, in one request. Each may have 2 bytes on the wire and 100 in memory."""

# --- hosts ------------------------------------------------------------------------------------------------------------

HOSTS = 1_000
"""Names of hosts that a kernel knows. Every list, every overview and the metrics have a row for each."""
INSTANCES_OF_HOST = 100
"""Processes of one host. The choice of the one that gets a step looks at each."""
WORKERS_OF_INSTANCE = 2_000
"""Worker processes of one instance, all in one heartbeat. A machine of 128 cores runs some hundreds."""
KEYS_OF_INSTANCE = 4_000
"""Attempts that the workers of one instance say they run, in one heartbeat; a host names 100 of each worker."""
SLOTS_OF_INSTANCE = 100_000
"""Steps that one instance offers to run at once, of either kind, as in nomaflow.toml: the kernel sends that many."""
INVENTORY = 20_000
"""Attempts in one hello: those that a host runs, or still has to report on."""
LABELS_OF_INSTANCE = 50
"""Labels of one instance. Each is compared for each step that asks for labels, and shown with the instance."""
ENDED_INCARNATIONS = 1_000
"""Earlier instances that a hello reports as ended; a host remembers as many."""

# --- manifests --------------------------------------------------------------------------------------------------------

MANIFEST_BYTES = 16 * 1024 * 1024
"""A manifest, unpacked: 10,000 jobs of 1 KiB and 10,000 callables of 500 bytes."""
MANIFEST_PACKED_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""A manifest, compressed, as a host sends it: gRPC refuses a request of 4 MiB. Text becomes some ten times smaller."""
MANIFEST_VALUES = 1_000_000
"""Values in a manifest, counted by commas and brackets before it is parsed: each becomes an object of some 60 bytes."""
MANIFEST_SECONDS = 10.0
"""Processor time in which a manifest is checked, on a thread; one of 10,000 jobs of three steps takes four seconds."""
CATALOGUE_BYTES = 64 * 1024 * 1024
"""The manifests of all hosts together, unpacked. In memory they take some eight times as much."""
JOBS_OF_HOST = 20_000
"""Jobs in one manifest."""
IDS_OF_HOST = 200_000
"""Ids of jobs that are one host's, those of removed jobs too: 350 bytes of the kernel's memory each, for its life."""
CALLABLES_OF_HOST = 20_000
"""Callables in one manifest, and modules."""
PARAMETERS_OF_CALLABLE = 255
"""Parameters of one callable; who needs more takes ``**``."""
STEPS_OF_JOB = 1_000
"""Steps of one job. Each is a row of a page, and of the history of every run."""
JOB_BYTES = 1024 * 1024
"""The definition of one job as JSON: it is sent with GetJob, and stored with every run that it changes for."""

# --- files ------------------------------------------------------------------------------------------------------------

PROBLEMS_OF_TABLE = 100
"""Problems that are told of one table, and of the top of one file; more say nothing new."""

# --- answers ----------------------------------------------------------------------------------------------------------

PAGE_BYTES = 1024 * 1024
"""A page of a list ends at the entry that passes this size; gRPC's own limit for a message is 4 MiB."""
LISTED_PROBLEMS = 100
"""Problems of one job or host, and of whole files, in one answer."""
LISTED_WORKERS = 200
"""Workers of one instance in a list of hosts."""

# --- times ------------------------------------------------------------------------------------------------------------

MOST_NUMBER = 2**53
"""A number of events, lines, rows or bytes: what every language holds exactly, since JSON's numbers are doubles."""
MOST_SMALL_NUMBER = 2**31 - 1
"""A number that is small in any case, such as that of a try or of a line of a file."""
LAST_MOMENT_US = 253_402_127_999_999_999
"""The last moment that has a date in every time zone, 29 December 9999, in microseconds since 1970."""
REPORTED_EVENTS = 10_000
"""Events of one attempt in one report; a host sends 64 KiB of each attempt, and the smallest event has 30 bytes."""
REPORTED_ATTEMPTS = 1_000
"""Attempts in one report; a host sends 64."""


def in_range(at_us: int) -> bool:
    """Return whether a number of microseconds since 1970 is a time of a calendar, from 1970 to 9999."""
    return 0 <= at_us <= LAST_MOMENT_US
