#!/bin/sh
# Installs AsynDGAN from the folder of this script.
set -eu

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--prefix DIR] [--libtorch DIR]

  --prefix DIR     install into DIR/asyndgan-VERSION, and link the program into DIR/bin
                   [default: ~/.local; for root: /opt, linked into /usr/local/bin]
  --libtorch DIR   use the libtorch in this folder, such as torch/lib of a Python package with CUDA,
                   and not the one of the archive

As root with the default folder, the script also creates the system user asyndgan, and installs the systemd units
asyndgan-server and asyndgan-site, which it does not start.
TEXT
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
prefix=
libtorch=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --libtorch)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            if [ "$1" = --prefix ]; then prefix=$2; else libtorch=$2; fi
            shift 2
            ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

system=
links=
if [ -z "$prefix" ]; then
    if [ "$(id -u)" -eq 0 ]; then
        prefix=/opt
        links=/usr/local
        system=yes
    else
        prefix=$HOME/.local
    fi
fi
links=${links:-$prefix}
if [ -n "$libtorch" ] && [ ! -f "$libtorch/libtorch_cpu.so" ]; then
    echo "$libtorch has no libtorch_cpu.so: give the folder lib of libtorch, or torch/lib of a Python package" >&2
    exit 1
fi

name=$(basename "$here" -linux-x86_64)
to=$prefix/$name
if [ -e "$to" ]; then
    echo "$to exists: remove it first, or choose another --prefix" >&2
    exit 1
fi
mkdir -p "$prefix" "$links/bin" "$links/share/man/man1" "$links/share/bash-completion/completions"
# Complete or not at all.
rm -rf "$to.partial"
cp -R "$here" "$to.partial"
if [ -n "$libtorch" ]; then
    rm -rf "$to.partial/lib"
    ln -s "$(CDPATH='' cd -- "$libtorch" && pwd)" "$to.partial/lib"
fi
mv "$to.partial" "$to"
ln -sfn "$to/bin/asyndgan" "$links/bin/asyndgan"
for page in "$to"/share/man/man1/*; do
    ln -sfn "$page" "$links/share/man/man1/$(basename "$page")"
done
ln -sfn "$to/share/bash-completion/completions/asyndgan" "$links/share/bash-completion/completions/asyndgan"

if [ "$system" = yes ]; then
    ln -sfn "$to" /opt/asyndgan
    id asyndgan >/dev/null 2>&1 || useradd --system --home-dir /var/lib/asyndgan --shell /usr/sbin/nologin asyndgan
    mkdir -p /etc/asyndgan
    for role in server site; do
        cp "$to/asyndgan-$role.service" /etc/systemd/system/
    done
    echo "Installed the units asyndgan-server and asyndgan-site. Their configurations: /etc/asyndgan/run.toml and"
    echo "/etc/asyndgan/site.toml; commented examples are in $to/examples. Then: systemctl daemon-reload"
fi
"$links/bin/asyndgan" --version
case :$PATH: in
    *:"$links/bin":*) ;;
    *) echo "Add $links/bin to PATH: export PATH=\"$links/bin:\$PATH\"" ;;
esac
