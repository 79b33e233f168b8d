"""The results as JSON, Markdown tables, and a chart."""

import json
import os
import platform
import shutil
import subprocess
import time

import peers
import workloads

# How many times faster than the best peer: (at 20 ms, at 100 ms).
GOALS = {
    "ls": (5, 20),
    "find": (5, 20),
    "grep": (20, 80),
    "git": (10, 20),
    "cat": (1.5, 2),
    "whole": (1, 1),
    "random": (1, 1),
    "tail": (1, 1),
    "save": (2, 2),
    "vim": (2, 3),
    "cp": (1.3, 1.5),
    "tar": (1, 1),
    "rm": (1, 1),
    "names": (1, 1),
    "upload": (0.5, 0.5),
    "exec": (1, 1),
}
NOISE = 0.95  # "as fast" within so much
LIMITS = ("local", "curl")
OURS = "gentilityfs"


def link_name(link):
    rtt, bandwidth = link
    return f"{rtt:g} ms" + (f", {bandwidth:g} Mbit/s" if bandwidth else "")


def facts(o, began):
    """What was measured where, with the versions of all of it."""
    versions = {}
    for name in o.peers:
        try:
            version = peers.PEERS[name].version(o.build)
        except (OSError, subprocess.SubprocessError):
            version = "?"
        if version:
            versions[name] = version
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "minutes": round((time.time() - began) / 60, 1),
        "machine": f"{os.cpu_count()} processors ({processor()}), "
        f"Linux {platform.release()}",
        "versions": versions,
        "repeat": o.repeat,
        "cap": o.cap,
        "quick": o.quick,
    }


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                if line.startswith("model name"):
                    return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.machine()


def write(o, results, about):
    o.shown = list(o.peers) + sorted(
        {r["peer"] for r in results} - set(o.peers))
    results = sorted(
        (r for r in results if (r["rtt"], r["bandwidth"]) in o.links
         and r["workload"] in o.only),
        key=lambda r: (o.links.index((r["rtt"], r["bandwidth"])),
                       o.only.index(r["workload"]),
                       o.shown.index(r["peer"])))
    with open(os.path.join(o.out, "results.json"), "w") as f:
        json.dump({"about": about, "results": results}, f, indent=1)
    with open(os.path.join(o.out, "results.md"), "w") as f:
        f.write(markdown(o, results, about))
    chart(o, results)


# -- numbers as text -----------------------------------------------------------


def seconds_text(s):
    if s < 0.01:
        return f"{s * 1000:.1f} ms"
    if s < 1:
        return f"{s * 1000:.0f} ms"
    return f"{s:.2f} s" if s < 10 else f"{s:.0f} s"


def bytes_text(n):
    for unit, size in (("MB", 1e6), ("KB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} B"


def ratio_text(ratio):
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def time_cell(r, cap):
    if r is None:
        return "-"
    if r.get("problem") == "cap":
        return f"> {cap:g} s"
    if "seconds" not in r:
        return "failed"
    return seconds_text(r["seconds"])


def cost_cell(r):
    """Requests and bytes."""
    if r is None or "seconds" not in r:
        return "-"
    parts = []
    if r.get("requests") is not None:
        parts.append(str(r["requests"]))
    parts.append(bytes_text(r["up"] + r["down"]))
    return ", ".join(parts)


# -- against the goals ----------------------------------------------------------


def verdict(name, link, row, cap):
    """The best peer, the ratio to it, the goal, and whether it is met."""
    ours = row.get(OURS)
    rivals = [r for p, r in row.items() if p != OURS and p not in LIMITS]
    timed = [r for r in rivals if "seconds" in r]
    best = min(timed, key=lambda r: r["seconds"], default=None)
    if ours is None or "seconds" not in ours:
        return None
    at_least = ""
    if best:
        against, theirs = best["peer"], best["seconds"]
    elif any(r.get("problem") == "cap" for r in rivals):
        against, theirs, at_least = "all", cap, "> "
    else:
        return None
    ratio = theirs / ours["seconds"]
    found = {"against": against, "ratio": ratio, "goal": None, "met": None,
             "text": at_least + ratio_text(ratio)}
    if link[1]:
        return found
    if link[0] == 0 and name == "whole" and "seconds" in row.get("curl", ()):
        # Against the limit, not a peer.
        curl = row["curl"]["seconds"] / ours["seconds"]
        found.update(goal=f"0.8 of curl ({curl:.2f})", met=curl >= 0.8)
    elif link[0] == 0:
        sshfs = row.get("sshfs")
        if sshfs and "seconds" in sshfs:
            found["goal"] = "sshfs x 3"
            found["met"] = ours["seconds"] <= 3 * sshfs["seconds"]
    elif link[0] in (20, 100) and name in GOALS:
        goal = GOALS[name][link[0] == 100]
        found["goal"] = f"{goal:g}"
        found["met"] = ratio >= goal * (NOISE if goal == 1 else 1)
        if at_least and not found["met"]:
            found["met"] = None  # not known
    return found


def rows(o, results, link):
    for name in o.only:
        row = {r["peer"]: r for r in results
               if (r["rtt"], r["bandwidth"]) == link
               and r["workload"] == name}
        if row:
            yield name, row


def markdown(o, results, about):
    lines = ["# Results of the benchmark", "",
             f"{about['date']}, {about['machine']}; "
             + "; ".join(dict.fromkeys(about["versions"].values()))
             + f".  It took {about['minutes']:.0f} minutes: the median of "
             f"{o.repeat}, {o.cap:g} s each at most.", ""]
    if o.baseline:
        lines += ["**The other peers' results are those of an earlier run.**",
                  ""]
    lines += ["## gentilityfs and the best of the others", ""]
    lines += summary(o, results)
    for link in o.links:
        lines += [f"## {link_name(link)}", ""]
        lines += times(o, results, link)
        lines += costs(o, results, link)
    lines += extras(o, results)
    return "\n".join(lines).rstrip() + "\n"


def summary(o, results):
    """One row for each workload, all links side by side."""
    links = [link for link in o.links if link[0] > 0] or o.links
    body = []
    for name in o.only:
        line = [workloads.WORKLOADS[name].title_for(o)]
        for link in links:
            row = dict(rows(o, results, link)).get(name, {})
            v = row and verdict(name, link, row, o.cap)
            if not v:
                line += [time_cell(row.get(OURS), o.cap), "-", "-"]
                continue
            theirs = row.get(v["against"])
            line += [time_cell(row[OURS], o.cap),
                     f"{time_cell(theirs, o.cap)} ({v['against']})"
                     if theirs else f"> {o.cap:g} s",
                     v["text"] + {True: "", None: "", False: " (goal "
                                  f"{v['goal']})"}[v["met"]]]
        if any(c != "-" for c in line[1:]):
            body.append(line)
    head = ["workload"]
    for link in links:
        head += [link_name(link), "the best other", "times faster"]
    return table(head, body)


def table(head, body):
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|",
            *("| " + " | ".join(r) + " |" for r in body), ""]


def times(o, results, link):
    body = []
    for name, row in rows(o, results, link):
        v = verdict(name, link, row, o.cap)
        body.append([
            workloads.WORKLOADS[name].title_for(o),
            *(time_cell(row.get(p), o.cap) for p in o.shown),
            v["text"] + (f" ({v['against']})" if v["against"] != "all"
                         else "") if v else "-",
            (v["goal"] or "") + {True: ", met", False: ", **missed**",
                                 None: ""}[v["met"]] if v else "",
        ])
    return table(["time", *o.shown, "times the best", "goal"], body)


def costs(o, results, link):
    shown = [p for p in o.shown if p not in ("local",)]
    body = [[workloads.WORKLOADS[name].title_for(o),
             *(cost_cell(row.get(p)) for p in shown)]
            for name, row in rows(o, results, link)]
    return table(["requests, bytes", *shown], body)


def extras(o, results):
    """What else reading large files told: speeds, processor, memory."""
    body = []
    for r in results:
        if r["workload"] not in ("whole", "gigabyte") or not r.get("size"):
            continue
        size, warm = r["size"], r.get("warm_seconds")
        body.append([
            r["peer"], workloads.WORKLOADS[r["workload"]].title_for(o),
            link_name((r["rtt"], r["bandwidth"])),
            f"{size / r['seconds'] / 1e6:.0f} MB/s",
            f"{size / warm / 1e6:.0f} MB/s" if warm else "-",
            *([f"{r['cpu'] * 1e9 / size:.2f} s",
               f"{r['peak_kib'] / 1024:.0f} MiB"]
              if r["peer"] not in LIMITS else ["-", "-"]),
        ])
    if not body:
        return []
    return ["### Large files", "", *table(
        ["", "", "link", "cold", "warm", "processor's time per GB",
         "peak memory"], body), memory(results)]


def memory(results):
    peak = max((r.get("peak_kib", 0) for r in results if r["peer"] == OURS),
               default=0)
    return f"gentilityfs took {peak / 1024:.0f} MiB of memory at most.\n"


# -- the chart ------------------------------------------------------------------


def chart(o, results):
    """chart.svg: one panel for each link, time on a logarithmic scale."""
    if not shutil.which("gnuplot"):
        print("run: no gnuplot, so no chart")
        return
    panels = [link for link in o.links if link[0] > 0] or o.links
    script = [
        f"set terminal svg size 1200,{420 * len(panels)} font 'sans,13' "
        "background 'white'",
        f"set output '{os.path.join(o.out, 'chart.svg')}'",
        f"set multiplot layout {len(panels)},1",
        "set style data histograms", "set style histogram clustered gap 1",
        "set style fill solid border rgb '#ffffff'", "set logscale y",
        "set ylabel 'seconds, less is better'", "set grid y",
        "set key outside right top", "set xtics rotate by -30 nomirror",
        "set yrange [0.001:]", "set format y '%g'",
    ]
    shown = [p for p in o.shown if p != "local"]
    for i, link in enumerate(panels):
        path = os.path.join(o.out, f"chart-{i}.dat")
        with open(path, "w") as f:
            f.write(" ".join(["workload", *shown]) + "\n")
            for name, row in rows(o, results, link):
                f.write(" ".join([name, *(
                    plotted(row.get(p), o.cap) for p in shown)]) + "\n")
        script.append(f"set title '{link_name(link)}'")
        script.append("plot " + ", ".join(
            f"'{path}' using {n + 2}:xtic(1) title '{p}'"
            for n, p in enumerate(shown)))
    script.append("unset multiplot")
    # It warns of a peer that has no value at all.
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True,
                   stderr=subprocess.DEVNULL, check=False)


def plotted(r, cap):
    if r and "seconds" in r:
        return f"{r['seconds']:.4f}"
    return f"{cap:g}" if r and r.get("problem") == "cap" else "NaN"
