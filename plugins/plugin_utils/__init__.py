"""Refuses an ansible-core that is too old, before anything imports what only newer ones have; never looks at anything else."""

from ansible import release
from ansible.errors import AnsibleError
from ansible_collections.modelyard.core.plugins.plugin_utils import compiled

# The first whose values know where they were written; meta/runtime.yml says the same, which is only a warning.
MINIMUM = (2, 19)

if tuple(int(part) for part in release.__version__.split(".")[:2]) < MINIMUM:
    raise AnsibleError(
        f"modelyard.core needs ansible-core {'.'.join(map(str, MINIMUM))} or newer, and this is {release.__version__}: "
        "pip install --upgrade ansible-core, or in AWX another execution environment"
    )

compiled.install()
