// How much memory there is for this process: the machine's, or what a container's cgroup leaves of
// it. Limits of every ancestor group count, as the kernel enforces each of them.

import Glibc

/// The memory that this process may use.
struct MachineMemory: Sendable, Equatable {
    /// Bytes.
    let size: UInt64
    /// What set the size, for the log: `machine` or the path of the cgroup's file.
    let source: String

    /// Finds the least of the machine's memory and the limits of all cgroups around this process
    /// (version 2 `memory.max` and `memory.high`, version 1 `memory.limit_in_bytes`).
    ///
    /// - Parameter root: Folder in which `proc` and `sys` are looked for; tests bring their own.
    /// - Returns: At least 1 MiB, and 1 GiB of source `unknown` where nothing could be read.
    static func detect(root: String = "") -> MachineMemory {
        var least = machine(root: root) ?? MachineMemory(size: 1 << 30, source: "unknown")
        for path in limitFiles(root: root) {
            guard let size = readText(path).flatMap(number), size < least.size else { continue }
            least = MachineMemory(size: size, source: String(path.dropFirst(root.count)))
        }
        return MachineMemory(size: max(least.size, 1 << 20), source: least.source)
    }

    private static func machine(root: String) -> MachineMemory? {
        guard let text = readText(root + "/proc/meminfo") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("MemTotal:") {
            let words = line.split(separator: " ")
            guard words.count >= 2, let kibibytes = UInt64(words[1]) else { return nil }
            let (size, overflow) = kibibytes.multipliedReportingOverflow(by: 1024)
            return overflow ? nil : MachineMemory(size: size, source: "machine")
        }
        return nil
    }

    /// The files that may hold a limit, from the innermost group outwards.
    ///
    /// Inside a container the group's path of `/proc/self/cgroup` may not exist below the mount, or
    /// be `/`; the mount's own root is then the container's group, so it is always looked at.
    private static func limitFiles(root: String) -> [String] {
        let mount = root + "/sys/fs/cgroup"
        var files: [String] = []
        for line in (readText(root + "/proc/self/cgroup") ?? "0::/").split(separator: "\n") {
            // hierarchy:controllers:path; version 2 is 0 without controllers.
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isVersion2 = parts[0] == "0" && parts[1].isEmpty
            guard isVersion2 || parts[1].split(separator: ",").contains("memory") else { continue }
            let base = isVersion2 ? mount : mount + "/memory"
            let names = isVersion2 ? ["memory.max", "memory.high"] : ["memory.limit_in_bytes"]
            for group in ancestors(of: parts[2]) {
                files += names.map { base + group + "/" + $0 }
            }
        }
        return files
    }

    /// `/a/b` yields `/a/b`, `/a` and the empty path.
    private static func ancestors(of path: Substring) -> [String] {
        var components = path.split(separator: "/").filter { $0 != ".." }
        var paths: [String] = []
        while !components.isEmpty {
            paths.append("/" + components.joined(separator: "/"))
            components.removeLast()
        }
        return paths + [""]
    }

    /// `max` and version 1's huge number (no limit) yield nil or more than any machine has.
    private static func number(_ text: String) -> UInt64? {
        UInt64(text.filter { $0 != "\n" && $0 != " " })
    }
}

/// A small text file, or nil if it can't be read.
///
/// Never more than 1 MiB.
private func readText(_ path: String) -> String? {
    (try? readFile(path, sizeMax: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
}
