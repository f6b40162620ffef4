import Foundation

/// What the figures were measured on, so that a table can stand alone.
struct Machine: Codable {
    let processor: String
    let processors: Int
    let memoryBytes: Int
    let kernel: String
    let hugePages: String
    let versions: [String: String]

    static func here(_ programs: Programs, processors: Int) -> Machine {
        func file(_ path: String) -> String {
            ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "")
                .trimmingCharacters(in: .whitespacesAndNewlines)
        }
        let model = file("/proc/cpuinfo").split(separator: "\n")
            .first { $0.hasPrefix("model name") }?.split(separator: ":").last
        return Machine(
            processor: model.map { $0.trimmingCharacters(in: .whitespaces) } ?? "unknown",
            processors: processors,
            memoryBytes: Int(ProcessInfo.processInfo.physicalMemory),
            kernel: file("/proc/sys/kernel/osrelease"),
            hugePages: file("/sys/kernel/mm/transparent_hugepage/enabled"),
            versions: [
                "redis": output([programs.redis, "--version"]),
                "memcached": output([programs.memcached, "-V"]),
                "nbdkit": output([programs.nbdkit, "--version"]),
                "smallocd": output([programs.smallocd, "--version"]),
            ])
    }

    var text: String {
        let peers = versions.values.filter { !$0.isEmpty }.sorted().joined(separator: "; ")
        return """
            \(processor), \(processors) processors, \(memoryBytes >> 30) GiB, Linux \(kernel), \
            huge pages \(hugePages)
            \(peers)

            """
    }

    /// The first line that a command prints, or nothing.
    private static func output(_ words: [String]) -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return "" }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return "" }
        return String(decoding: data, as: UTF8.self).split(separator: "\n").first.map {
            String($0.prefix(60))
        } ?? ""
    }
}
