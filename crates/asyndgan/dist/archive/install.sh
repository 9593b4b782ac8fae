#!/bin/sh
# Installs AsynDGAN from the folder of this script.
set -eu
# The files are for all users, whatever the mask of this shell.
umask 022

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--prefix DIR] [--libtorch DIR]

  --prefix DIR     install into DIR/asyndgan-VERSION, and link the program into DIR/bin
                   [default: ~/.local; for root: /opt, linked into /usr/local/bin]
  --libtorch DIR   use the libtorch in this folder, of the version in asyndgan.cdx.json,
                   and not the one of the archive

As root with the default folder, the script also creates the system user asyndgan, and installs the systemd units
asyndgan-server and asyndgan-site, which it does not start.
TEXT
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
prefix=
libtorch=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --libtorch)
            [ -n "${2:-}" ] || fail "$1 needs a folder" 2
            if [ "$1" = --prefix ]; then prefix=$2; else libtorch=$2; fi
            shift 2
            ;;
        --help | -h) usage; exit 0 ;;
        *)
            echo "install.sh: unknown option $1" >&2
            usage >&2
            exit 2
            ;;
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
        prefix=${HOME:?is not set: give a --prefix}/.local
    fi
fi
mkdir -p "$prefix"
# Links to the files must hold from everywhere.
prefix=$(CDPATH='' cd -- "$prefix" && pwd)
links=${links:-$prefix}
if [ -n "$libtorch" ]; then
    [ -f "$libtorch/libtorch_cpu.so" ] ||
        fail "$libtorch has no libtorch_cpu.so: give the folder lib of libtorch, or torch/lib of a Python package"
    libtorch=$(CDPATH='' cd -- "$libtorch" && pwd)
fi

to=$prefix/asyndgan-$(cat "$here/VERSION")
if [ "$system" = yes ]; then
    [ ! -d /opt/asyndgan ] || [ -L /opt/asyndgan ] || fail "/opt/asyndgan is a folder: remove it, the units need a link there"
    for role in server site; do
        case $(systemctl show --property=ActiveState --value "asyndgan-$role" 2>/dev/null || true) in
            inactive | failed | '') ;;
            *) fail "asyndgan-$role is running, and a run must end with the version that began it: stop the unit first" ;;
        esac
    done
    id asyndgan >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/asyndgan --shell /usr/sbin/nologin asyndgan ||
        fail "cannot create the user asyndgan; nothing was installed"
fi
if [ -e "$to" ]; then
    # An installation of the same program that did not reach its end is completed.
    [ "$system" = yes ] && cmp -s "$here/bin/asyndgan" "$to/bin/asyndgan" ||
        fail "$to exists: remove it first, or choose another --prefix"
    [ -z "$libtorch" ] || fail "$to exists: remove it first, to install it with another libtorch"
else
    # Complete or not at all.
    partial=$to.partial
    trap 'rm -rf "$partial"' EXIT
    rm -rf "$partial"
    cp -R "$here" "$partial"
    # The archive may have been unpacked with a mask that hides it from other users.
    chmod -R u=rwX,go=rX "$partial"
    if [ -n "$libtorch" ]; then
        rm -rf "$partial/lib"
        ln -s "$libtorch" "$partial/lib"
    fi
    "$partial/bin/asyndgan" --version || fail "the program does not start here; nothing was installed"
    mv "$partial" "$to"
fi

link() {
    mkdir -p "$links/$2"
    ln -sfn "$1" "$links/$2/$(basename "$1")"
}
link "$to/bin/asyndgan" bin
for page in "$to"/share/man/man1/*; do
    link "$page" share/man/man1
done
link "$to/share/bash-completion/completions/asyndgan" share/bash-completion/completions
link "$to/share/zsh/site-functions/_asyndgan" share/zsh/site-functions
link "$to/share/fish/vendor_completions.d/asyndgan.fish" share/fish/vendor_completions.d

if [ "$system" = yes ]; then
    ln -sfn "$to" /opt/asyndgan
    mkdir -p /etc/asyndgan
    for role in server site; do
        cp "$to/asyndgan-$role.service" /etc/systemd/system/
    done
    echo "Installed the units asyndgan-server and asyndgan-site. Next, for a site:"
    echo "  install -d -o asyndgan -m 700 /var/lib/asyndgan"
    echo "  install -o asyndgan -m 600 $to/examples/site.toml north.pem north-key.pem /etc/asyndgan/    # then edit site.toml"
    echo "  systemctl daemon-reload && systemctl enable --now asyndgan-site"
fi
case :$PATH: in
    *:"$links/bin":*) ;;
    *) echo "Add $links/bin to PATH: export PATH=\"$links/bin:\$PATH\"" ;;
esac
