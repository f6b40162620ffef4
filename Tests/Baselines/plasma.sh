#!/bin/bash
# Measures the Python client beside Plasma, in a virtual environment below .build, which is kept.
# What a machine has not got is told in a line and skipped.
#
#     Tests/Baselines/plasma.sh SMALLOCD [OPTIONS OF plasma.py]
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    echo "plasma: skipped, $1"
    exit 0
}

python=${PYTHON:-python3}
command -v "$python" > /dev/null || skip "there is no $python"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' ||
    skip "$python is $version, and the last release with Plasma is for 3.9 to 3.11"
folder=$PWD/.build/python/$version-plasma
[ -x "$folder/bin/pip" ] || "$python" -m venv "$folder" || skip "$python can't make environments"
[ -x "$folder/bin/plasma_store" ] ||
    "$folder/bin/pip" install --quiet --retries 1 --timeout 20 --only-binary :all: \
        'pyarrow==11.0.0' 'numpy<2' ||
    skip "pip reaches no index, or finds no pyarrow 11.0.0 for this machine"
PYTHONPATH=$PWD/protocol/python/src exec "$folder/bin/python" -B Tests/Baselines/plasma.py "$@"
