"""Reports: one HTML file that needs nothing else to be read, and the pictures that only a report has."""

from pinnsim.report.coverage import coverage_of, coverage_panel, coverage_table
from pinnsim.report.genes import fit_scores, gene_panels, shown_genes, summary_of
from pinnsim.report.history import history_panels
from pinnsim.report.network import network_panel
from pinnsim.report.page import Report, png_bytes
from pinnsim.report.sections import add_course, add_coverage, add_genes, add_network

__all__ = [
    "Report",
    "add_course",
    "add_coverage",
    "add_genes",
    "add_network",
    "coverage_of",
    "coverage_panel",
    "coverage_table",
    "fit_scores",
    "gene_panels",
    "history_panels",
    "network_panel",
    "png_bytes",
    "shown_genes",
    "summary_of",
]
