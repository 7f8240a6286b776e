"""`make dictionary`: the pages on fields of records, columns of tables, fields of the config, and metrics."""

from reports.docs import config, dictionary, metrics

for module in (dictionary, config, metrics):
    module.PAGE.write_text(module.page())
