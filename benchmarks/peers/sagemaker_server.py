"""SageMaker's PyTorch inference toolkit, as its containers start it, with its files elsewhere.

It writes to /etc and to the current directory, which belong to it in a container only.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    os.chdir(directory)  # before the import, which looks where it is
    from sagemaker_pytorch_serving_container import serving, torchserve

    torchserve.TS_CONFIG_FILE = str(directory / "ts.properties")
    serving.main()
