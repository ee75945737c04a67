"""Makes no DAG: it fails to import, on purpose, as long as a file in config/simulations/ is wrong.

So it does when the Variable `hpc_site` lists connections wrongly, for then their janitors are missing.

Airflow shows the error on its start page, with every wrong file, the path of the value in it and what would be right.
It is a file of its own because an import error stops every DAG of the file that raised it.
"""

from hpc.checked import find_problems
from hpc.errors import ConfigurationError
from hpc.site import check_connections

if problems := find_problems():
    raise ConfigurationError("These simulations have no DAG:\n" + "\n".join(problems), remedy="correct the files")
check_connections()
