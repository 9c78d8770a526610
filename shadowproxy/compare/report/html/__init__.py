"""The report as one HTML file."""

from shadowproxy.compare.report.html.page import to_html as to_html
