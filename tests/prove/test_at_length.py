"""Quick tests that go by chance or by time, run for longer: fifty kills, a crowd for a minute, thousands of damaged files."""

import os

# Read where the modules are loaded; whoever asks for other figures keeps them.
for name, figure in {"HEADSTART_KILLS": "50", "HEADSTART_OVERLOAD_SECONDS": "60", "HEADSTART_MUTANTS": "3000"}.items():
    os.environ.setdefault(name, figure)

from test_dirty_uploads import test_files_damaged_by_chance_are_judged_and_never_an_error  # noqa: E402, F401
from test_durability import test_jobs_killed_at_random_moments_end_with_the_numbers_of_an_undisturbed_one  # noqa: E402, F401
from test_overload import test_a_crowd_meets_limits_and_loses_nothing  # noqa: E402, F401
