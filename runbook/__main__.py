"""`python -m runbook` is `pmrunbook`."""

from runbook.cli import main

raise SystemExit(main())
