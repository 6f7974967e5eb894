"""CAP as XML: read with a finding for every defect, written with none."""
