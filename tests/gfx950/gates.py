"""gates.py GFX950EMU OBJECT..: static limits of the kernels on the matrix units: no spills, no scratch, registers and
LDS that leave room for the waves below, no opcode that the emulator does not know; and what may only change on purpose,
the counts of matrix instructions and registers in gates.json. --write renews that file."""

import json
import re
import subprocess
import sys
from pathlib import Path

KNOWN = Path(__file__).with_name("gates.json")
# VGPRs of 512 a lane, and LDS of 160 KiB: four waves a SIMD and four workgroups a compute unit; for attention, whose
# block holds its heads' queries and sums in registers, two and three.
LIMITS = {"AttendKernel": (256, 52 * 1024)}
OTHERS = (128, 40 * 1024)


def short(name):
    """"LinearKernel 0 2 4" of a mangled name: the kernel and its template's constants (formats, tiles, flags)."""
    kernel = re.search(r"\d([A-Z][a-zA-Z]*Kernel)", name).group(1)
    return " ".join([kernel, *re.findall(r"(?:FormatE|LS\d+_|Li|Lb)(\d+)E", name)])


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    listed = subprocess.run(arguments, capture_output=True, text=True)
    if listed.returncode != 0:
        sys.exit(listed.stderr)
    found, errors = {}, []
    for line in listed.stdout.splitlines():
        kernel = json.loads(line)
        name = short(kernel["kernel"])
        vgprs, lds = LIMITS.get(name.split()[0], OTHERS)
        for limit, most in (("scratch_bytes", 0), ("vgpr_spills", 0), ("sgpr_spills", 0), ("vgprs", vgprs),
                            ("lds_bytes", lds)):
            if kernel[limit] > most:
                errors.append(f"{name}: {limit} at most {most}, found {kernel[limit]}")
        assert name not in found, name
        found[name] = {key: kernel[key] for key in ("vgprs", "agprs", "lds_bytes", "mfma")}
    if "--write" in sys.argv:
        rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
        KNOWN.write_text("{\n" + rows + "\n}\n")
    known = json.loads(KNOWN.read_text())
    for name in sorted(known.keys() | found.keys()):
        if known.get(name) != found.get(name):
            errors.append(f"{name}: expected {known.get(name)}, found {found.get(name)}; if it is meant: gates.py --write")
    if errors:
        sys.exit("\n".join(errors))
    print(f"{len(found)} kernels within their limits")


main()
