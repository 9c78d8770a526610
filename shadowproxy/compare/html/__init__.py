"""The report as one HTML file."""

from shadowproxy.compare.html.page import to_html as to_html
