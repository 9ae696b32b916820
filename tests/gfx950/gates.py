"""gates.py GFX950EMU OBJECT..: static limits of the kernels on the matrix units. Whatever the compiler: no spills, no
scratch, registers and LDS that leave room for the waves below, no opcode that the emulator does not know. With the
compiler that gates.json names also what may only change on purpose: registers, LDS, matrix instructions, occupancy, the
cycles of inner loops by llvm-mca beside a roofline, and each code object's checksum. --write renews that file and the
table of docs/gfx950.md."""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KNOWN = Path(__file__).with_name("gates.json")
DOCS = Path(__file__).parents[2] / "docs" / "gfx950.md"
TABLE = re.compile(r"(<!-- inner loops: gates.py --write -->\n).*?(<!-- end -->)", re.DOTALL)

# Of a compute unit: VGPRs a lane and SIMD, waves a SIMD, SIMDs, bytes of LDS.
VGPRS, MOST_WAVES, SIMDS, LDS = 512, 8, 4, 160 * 1024
# VGPRs and LDS of a kernel: four waves a SIMD and four workgroups a compute unit; of attention, whose block holds its
# heads' queries and sums in registers, two and three; of norm_linear, whose rows lie in LDS, four and two.
LIMITS = {"AttendKernel": (256, 52 * 1024), "NormLinearKernel": (128, 64 * 1024)}
OTHERS = (128, 40 * 1024)
# What a launch of norm_linear asks for beside its own LDS: a row of 7168, the largest hidden size of configs/, by format
# (0 bf16, 1 FP8, 2 MXFP4). src/hip/norm_linear.cu asserts the same numbers.
NORMED_ROW = {0: 14352, 1: 7408, 2: 3824}

# The roofline, a clock of 2.4 GHz and one of 256 compute units' four SIMDs: 8 TB/s, and 8192 operations in FP8, half of
# them in bf16, twice in FP4 (AMD at ISSCC 2026; 5.0 PFLOP/s in FP8).
BYTES_A_CLOCK = 8e12 / 2.4e9 / 256 / SIMDS
OPERATIONS_A_CLOCK = {"bf16": 4096 / SIMDS, "fp8": 8192 / SIMDS, "fp4": 16384 / SIMDS}


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


def short(name):
    """"LinearKernel 0 2 x4" of a mangled name: the kernel and its template's constants: formats and flags, tiles of rows."""
    kernel = re.search(r"\d([A-Z][a-zA-Z]*Kernel)", name).group(1)
    constants = re.findall(r"(?:FormatE|AccessE|LS\d+_|(Li)|Lb)(\d+)E", name)
    return " ".join([kernel, *("x" + number if tiles else number for tiles, number in constants)])


def bodies(path):
    """{kernel: its lines, labels included}"""
    kernels, name = {}, None
    for line in run("llvm-objdump-22", "-d", "--symbolize-operands", "--no-show-raw-insn", "--no-leading-addr",
                    path).splitlines():
        if match := re.match(r"<(_Z.*)>:", line):
            name = match.group(1)
            kernels[name] = []
        elif name and line.strip():
            kernels[name].append(line.split("//")[0].strip())
    return kernels


def inner_loops(lines):
    """What a branch back encloses and no other loop lies in, where it has matrix instructions."""
    labels = {match.group(1): i for i, line in enumerate(lines) if (match := re.match(r"<(L\d+)>:", line))}
    ends = {}
    for i, line in enumerate(lines):
        if (match := re.match(r"s_c?branch\S* (L\d+)$", line)) and labels.get(match.group(1), i) < i:
            ends[labels[match.group(1)]] = i
    spans = ends.items()
    inner = [(a, b) for a, b in spans if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]
    loops = [[line for line in lines[a : b + 1] if not re.match(r"<|s_c?branch", line)] for a, b in sorted(inner)]
    return [loop for loop in loops if any("v_mfma" in line for line in loop)]


def roofline(loop):
    """Clocks of a wave and iteration, of four waves on their SIMDs: the loads' bytes, and the multiplications."""
    loaded = sum(64 * 4 * (int(match.group(1) or 1)) for line in loop
                 if (match := re.match(r"global_load_dword(?:x(\d))?\b", line)))
    loaded += sum(64 for line in loop if line.startswith("global_load_ubyte"))
    clocks = 0.0
    for line in loop:
        if match := re.search(r"v_mfma\S*?f32_(\d+)x\d+x(\d+)_(bf16|f8f6f4)", line):
            n, k = int(match.group(1)), int(match.group(2))
            kind = "bf16" if match.group(3) == "bf16" else "fp4" if "cbsz:4" in line else "fp8"
            clocks += 2 * n * n * k / OPERATIONS_A_CLOCK[kind]
    return loaded / BYTES_A_CLOCK, clocks


def cycles(regions):
    """{name: cycles an iteration} of [(name, loop)], by llvm-mca."""
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        for name, loop in regions:
            file.write(f"# LLVM-MCA-BEGIN {name}\n" + "\n".join(loop) + "\n# LLVM-MCA-END\n")
        file.flush()
        found = json.loads(run("llvm-mca-22", "-mtriple=amdgcn-amd-amdhsa", "-mcpu=gfx950", "--iterations=100", "--json",
                               file.name))
    summaries = {region["Name"]: region["SummaryView"] for region in found["CodeRegions"]}
    return {name: round(of["TotalCycles"] / of["Iterations"]) for name, of in summaries.items()}


def checksum(path):
    """Of the instructions: what else is in a code object may hold the names of files."""
    with tempfile.NamedTemporaryFile() as file:
        run("llvm-objcopy-22", "-O", "binary", "--only-section=.text", path, file.name)
        return hashlib.sha256(Path(file.name).read_bytes()).hexdigest()[:16]


def lds(name, kernel):
    """Of a workgroup, with what its launch asks for."""
    asked = 0
    if match := re.fullmatch(r"NormLinearKernel \d (\d) \d x(\d)", name):
        asked = NORMED_ROW[int(match.group(1))] * int(match.group(2))
    return kernel["lds_bytes"] + asked


def occupancy(kernel):
    """Waves a SIMD, by registers and by LDS."""
    registers = max((kernel["vgprs"] + kernel["agprs"] + 7) // 8 * 8, 8)
    waves = kernel["threads"] // 64
    by_lds = LDS // kernel["lds_bytes"] * waves // SIMDS if kernel["lds_bytes"] else MOST_WAVES
    return min(MOST_WAVES, VGPRS // registers, by_lds)


def table(found):
    """Of the kernels for few rows, and of those without tiles, the loop that loads most."""
    rows = ["| kernel, constants | VGPRs | LDS | waves a SIMD | inner loop: MFMAs | cycles, llvm-mca | roofline, memory | "
            "roofline, matrix units |", "|---|---|---|---|---|---|---|---|"]
    for name, of in sorted(found.items()):
        if re.search(r" x[2-9]", name) or not of.get("loops"):
            continue
        loop = max(of["loops"], key=lambda one: one["memory"])
        rows.append(f"| {name} | {of['vgprs']} | {of['lds_bytes']} | {of['waves']} | {loop['mfma']} | "
                    f"{loop['cycles']} | {loop['memory']} | {loop['matrix']} |")
    return "\n".join(rows) + "\n"


def main():
    write = "--write" in sys.argv
    emulator, *objects = [argument for argument in sys.argv[1:] if argument != "--write"]
    compiler = run("clang-22", "--version").splitlines()[0]
    found, errors, regions = {}, [], []
    for line in run(emulator, *objects).splitlines():
        kernel = json.loads(line)
        name = short(kernel["kernel"])
        kernel["lds_bytes"] = lds(name, kernel)
        vgprs, most_lds = LIMITS.get(name.split()[0], OTHERS)
        for limit, most in (("scratch_bytes", 0), ("vgpr_spills", 0), ("sgpr_spills", 0), ("vgprs", vgprs),
                            ("lds_bytes", most_lds)):
            if kernel[limit] > most:
                errors.append(f"{name}: {limit} at most {most}, found {kernel[limit]}")
        assert name not in found, name
        found[name] = {key: kernel[key] for key in ("vgprs", "agprs", "lds_bytes", "mfma")}
        found[name]["waves"] = occupancy(kernel)
    for path in objects:
        for mangled, lines in bodies(path).items():
            name = short(mangled)
            for i, loop in enumerate(inner_loops(lines)):
                memory, matrix = roofline(loop)
                found[name].setdefault("loops", []).append({"mfma": sum("v_mfma" in line for line in loop),
                                                            "memory": round(memory), "matrix": round(matrix)})
                regions.append((f"{name}/{i}", loop))
    for region, clocks in cycles(regions).items():
        name, i = region.split("/")
        found[name]["loops"][int(i)]["cycles"] = clocks
    checksums = {Path(path).stem: checksum(path) for path in objects}
    if write:
        rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found))
        KNOWN.write_text(f'{{"compiler": "{compiler}",\n"checksums": {json.dumps(checksums)},\n"kernels": {{\n{rows}\n}}}}\n')
        DOCS.write_text(TABLE.sub(lambda match: match.group(1) + table(found) + match.group(2), DOCS.read_text()))
    known = json.loads(KNOWN.read_text())
    hint = "; if it is meant: gates.py --write"
    if compiler == known["compiler"]:
        for name in sorted(known["kernels"].keys() | found.keys()):
            if known["kernels"].get(name) != found.get(name):
                errors.append(f"{name}: expected {known['kernels'].get(name)}, found {found.get(name)}{hint}")
        for name, sum_of in checksums.items():
            if known["checksums"].get(name) != sum_of:
                errors.append(f"{name}: checksum {known['checksums'].get(name)}, found {sum_of}{hint}")
        if table(found) not in DOCS.read_text():
            errors.append(f"docs/gfx950.md: the table of inner loops is another{hint}")
    else:
        print(f"checksums, registers and cycles not compared: they are kept of {known['compiler']}, this is {compiler}")
    if errors:
        sys.exit("\n".join(errors))
    print(f"{len(found)} kernels within their limits, {len(regions)} inner loops")


main()
