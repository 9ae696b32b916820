#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, and only those that are missing; then xgrammar.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config make
  nlohmann-json3-dev libcli11-dev libfmt-dev libpcre2-dev libutf8proc-dev
  libboost1.81-dev libssl-dev prometheus-cpp-dev
  libgtest-dev libgmock-dev
  python3 python3-pip python3-pytest python3-numpy openssl
)
[[ "${MXMLA_SETUP:-}" == *lint* ]] && packages+=(clang-format clang-tidy)
[[ "${MXMLA_SETUP:-}" == *ccache* ]] && packages+=(ccache)
[[ "${MXMLA_SETUP:-}" == *fuzz* ]] && packages+=(clang libclang-rt-14-dev)
[[ "${MXMLA_SETUP:-}" == *gfx950* ]] && packages+=(clang-22 lld-22 llvm-22)
[[ "${MXMLA_SETUP:-}" == *clients* ]] && packages+=(python3-venv)
[[ "${MXMLA_SETUP:-}" == *bench* ]] && packages+=(libbenchmark-dev)
[[ "${MXMLA_SETUP:-}" == *browser* ]] && packages+=(chromium chromium-driver python3-selenium)

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]} > 0)); then
  echo "installing: ${missing[*]}"
  sudo=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "setup: run as root, or install: ${missing[*]}" >&2; exit 1; }
    sudo=(sudo)
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
"$(dirname "$0")/xgrammar.sh"
