# Makes .venv with the packages of requirements.txt, and again when that file changes. The other scripts source this
# file and then have $python. It takes the first Python 3.10 or newer on the path.

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10 or newer on the path; install one (Debian, Ubuntu: apt install python3 python3-venv)" >&2
    return 1
}

setup() {
    python=.venv/bin/python
    if cmp -s requirements.txt .venv/requirements.installed; then
        return
    fi
    local base
    base=$(find_python) || return 1
    if [ ! -x "$python" ] && ! "$base" -m venv .venv; then
        echo "error: $base cannot make .venv; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2
        return 1
    fi
    echo "installing requirements.txt into .venv (torch is the large part: about 5 GB on disk)"
    if ! "$python" -m pip install --quiet --disable-pip-version-check -r requirements.txt; then
        echo "error: pip could not install requirements.txt into .venv; its message is above" >&2
        return 1
    fi
    cp requirements.txt .venv/requirements.installed
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
setup || exit 1
