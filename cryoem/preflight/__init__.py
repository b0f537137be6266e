"""Before a run: how the files are to be read, decided by experiment, with the evidence."""

from cryoem.preflight.evidence import decide_sign as decide_sign
from cryoem.preflight.examine import Findings as Findings
from cryoem.preflight.examine import examine as examine
from cryoem.preflight.verdicts import refuse_contradictions as refuse_contradictions
