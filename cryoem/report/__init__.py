"""``report.html``: one page with everything a run has to show."""

from cryoem.report.build import build_report as build_report
