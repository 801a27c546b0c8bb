"""Drift of what is served against what was trained on, from counts that add up.

``column_values`` reads values, ``column_bins`` fixes the bins (``numeric_bins``, ``categorical_bins``), ``references``
keep them with a release, ``sketches`` count rows in them, ``served`` is what a plane has counted, ``divergence``
measures, ``judging`` decides, ``attribution`` ranks by damage and traces to batches.
"""
