// The subcommand that says in sentences what is wrong with a daemon, or tight.

import ArgumentParser
import Glibc
import Smalloc
import SmallocWire

struct Doctor: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what is wrong with the daemon, or tight.",
        discussion: """
            Of a daemon on the same machine also what the machine does to it. A line begins with \
            ok, note for what is tight or could be better, or wrong; with one that is wrong the \
            exit code is 1.
            """)

    @OptionGroup var common: CommonOptions

    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        let start = monotonicSeconds()
        try daemon.ping()
        let seconds = monotonicSeconds() - start
        let stats = try daemon.stats()
        var machine: Machine?
        if case .unix = daemon.address, let pid = stats.number("pid") { machine = Machine(pid) }
        let findings =
            [Finding.answer(seconds, "\(daemon.address)")] + Diagnosis(stats, machine).findings
        if common.json {
            let lines = findings.map { finding in
                JSON.object([
                    ("level", .string(finding.level.rawValue)), ("text", .string(finding.text)),
                ]).text
            }
            try Output.standard.write("[" + lines.joined(separator: ",\n ") + "]\n")
        } else {
            for finding in findings {
                let level = finding.level.rawValue
                let space = String(repeating: " ", count: 7 - level.count)
                try Output.standard.write("\(level)\(space)\(printable(finding.text))\n")
            }
        }
        if findings.contains(where: { $0.level == .wrong }) { throw ExitCode(1) }
    }
}

/// One thing that has been looked at.
struct Finding: Equatable {
    /// How bad it is.
    enum Level: String {
        case ok
        case note
        case wrong
    }

    let level: Level
    /// A sentence.
    let text: String

    init(_ level: Level, _ text: String) {
        self.level = level
        self.text = text
    }

    /// How long an answer took.
    static func answer(_ seconds: Double, _ address: String) -> Finding {
        let text = "The daemon at \(address) answers in \(decimal(seconds * 1000, 2)) ms."
        return Finding(seconds < 0.1 ? .ok : .note, text)
    }
}

/// What the machine says of a daemon that runs on it; nil for what it does not tell.
struct Machine {
    /// `vm.overcommit_memory`.
    var overcommit: UInt64?
    /// The word that is chosen in `shmem_enabled`.
    var sharedHugePages: String?
    /// Mappings of the daemon's process, and how many it may have.
    var mappings: UInt64?
    var mappingsMax: UInt64?
    /// Descriptors of the daemon's process, and how many it may have.
    var descriptors: UInt64?
    var descriptorsMax: UInt64?

    init() {}

    /// Looks; nil: the process is none of this machine's, as that of a container.
    init?(_ pid: UInt64) {
        guard Machine.text("/proc/\(pid)/comm") == "smallocd\n" else { return nil }
        overcommit = Machine.number("/proc/sys/vm/overcommit_memory")
        mappingsMax = Machine.number("/proc/sys/vm/max_map_count")
        let choice = Machine.text("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
        sharedHugePages = choice.flatMap { text in
            text.split(separator: "[").dropFirst().first?.split(separator: "]").first
                .map(String.init)
        }
        mappings = Machine.text("/proc/\(pid)/maps").map { text in
            UInt64(text.utf8.count { $0 == UInt8(ascii: "\n") })
        }
        descriptors = Machine.entries("/proc/\(pid)/fd")
        let line = Machine.text("/proc/\(pid)/limits")?.split(separator: "\n").first {
            $0.hasPrefix("Max open files")
        }
        descriptorsMax = line.flatMap { line in
            line.split(separator: " ").dropFirst(3).first.flatMap { UInt64($0) }
        }
    }

    private static func number(_ path: String) -> UInt64? {
        text(path).flatMap { UInt64($0.prefix { $0.isNumber }) }
    }

    /// What a file of the kernel's says, whatever its size; nil: it may not be read, or is empty.
    private static func text(_ path: String) -> String? {
        guard let file = try? InputFile(path) else { return nil }
        var bytes: [UInt8] = []
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { block.deallocate() }
        while let size = try? file.read(into: block), size > 0 {
            bytes += block[..<size]
            if size < block.count { break }
        }
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    private static func entries(_ path: String) -> UInt64? {
        guard let folder = opendir(path) else { return nil }
        defer { closedir(folder) }
        var count: UInt64 = 0
        while readdir(folder) != nil { count += 1 }
        // Itself and the one above.
        return count > 2 ? count - 2 : nil
    }
}

/// What follows from a daemon's figures and those of its machine.
struct Diagnosis {
    private let stats: [(key: String, value: String)]
    private let machine: Machine?

    init(_ stats: Smalloc.Stats, _ machine: Machine?) { self.init(stats.lines, machine) }

    init(_ stats: [(key: String, value: String)], _ machine: Machine?) {
        self.stats = stats
        self.machine = machine
    }

    private func number(_ key: String) -> UInt64? {
        stats.first { $0.key == key }.flatMap { UInt64($0.value) }
    }

    /// All of them, in an order of their own.
    var findings: [Finding] {
        [knowledge, memory, held, allocations, connections, refusals, timeouts, turns, errors]
            .compactMap(\.self) + machineFindings
    }

    /// Nearly all of something is used up at this part of a hundred, all but at the second.
    private static let (tight, full) = (80.0, 95.0)

    /// What is said of something that has a limit.
    private func limited(
        _ used: UInt64, _ limit: UInt64, _ text: (String) -> String, _ advice: String
    ) -> Finding {
        let part = limit == 0 ? 0 : Double(used) / Double(limit) * 100
        let level: Finding.Level =
            part >= Diagnosis.full ? .wrong : part >= Diagnosis.tight ? .note : .ok
        let sentence = text("\(decimal(part, 0))%")
        return Finding(level, level == .ok ? sentence : "\(sentence) \(advice)")
    }

    private var knowledge: Finding? {
        if let daemon = stats.first(where: { $0.key == "version" })?.value, daemon != version {
            return Finding(.note, "The daemon has version \(daemon), this tool \(version).")
        }
        let unknown = Operation.allCases.map(\.name)
            .filter { number("requests_\($0)") == nil }
        if unknown.isEmpty { return Finding(.ok, "The daemon knows all that this tool asks.") }
        let names = unknown.joined(separator: ", ")
        return Finding(.note, "The daemon is older than this tool, and does not know \(names).")
    }

    private var memory: Finding? {
        guard let used = number("memory_used_bytes"), let limit = number("limit_memory_bytes")
        else { return nil }
        let scattered = number("memory_scattered_bytes") ?? 0
        return limited(
            used.addedClamped(scattered), limit,
            { "Of \(humanSize(limit)) of memory \(humanSize(used)) are used, \($0)." },
            "Allocations will be refused: dispose of some, or raise memory-max.")
    }

    private var held: Finding? {
        guard let held = number("memory_held_bytes"), let limit = number("limit_memory_bytes")
        else { return nil }
        if held == 0 {
            return Finding(.ok, "Clients hold no memory of allocations that are disposed of.")
        }
        let prefix = "memory_held_bytes_uid_"
        let users = stats.filter { $0.key.hasPrefix(prefix) }.map { line in
            let size = UInt64(line.value).map { humanSize($0) } ?? line.value
            switch line.key.dropFirst(prefix.count) {
            case "none": return "\(size) made over TCP"
            case "other": return "\(size) of others"
            case let user: return "\(size) of user \(user)"
            }
        }
        let text =
            "Clients hold \(humanSize(held)) of allocations that are disposed of"
            + (users.isEmpty ? "." : ": \(users.joined(separator: ", ")).")
        let part = limit == 0 ? 0 : Double(held) / Double(limit)
        if part < 0.1 { return Finding(.ok, text) }
        return Finding(part < 0.5 ? .note : .wrong, "\(text) It is free when their mappings are.")
    }

    private var allocations: Finding? {
        guard let count = number("allocations"), let limit = number("limit_allocations") else {
            return nil
        }
        return limited(
            count, limit, { "\(count) of \(limit) allocations are there, \($0)." },
            "Dispose of some, or raise allocations-max.")
    }

    private var connections: Finding? {
        guard let count = number("connections"), let limit = number("limit_connections") else {
            return nil
        }
        return limited(
            count, limit, { "\(count) of \(limit) connections are open, \($0)." },
            "Others will be refused: raise connections-max, or the limit of descriptors.")
    }

    private var refusals: Finding? {
        guard let refused = number("connections_refused"), refused > 0 else { return nil }
        return Finding(.note, "\(refused) connections were refused since the start.")
    }

    private var timeouts: Finding? {
        let idle = number("idle_timeouts") ?? 0
        let late = number("request_timeouts") ?? 0
        guard idle + late > 0 else { return nil }
        return Finding(
            late > 0 ? .note : .ok,
            "\(late) connections were closed since the start for a request that made no progress, "
                + "\(idle) for idleness.")
    }

    private var turns: Finding? {
        guard let longest = number("loop_longest_turn_us") else { return nil }
        let text = "The longest turn of a loop took \(decimal(Double(longest) / 1000, 1)) ms"
        if longest < 20_000 { return Finding(.ok, text + ".") }
        return Finding(
            longest < 1_000_000 ? .note : .wrong,
            "\(text): as long others have waited; the daemon's log tells when.")
    }

    private var errors: Finding? {
        guard let errors = number("errors") else { return nil }
        let requests = stats.filter { $0.key.hasPrefix("requests_") }
            .reduce(0 as UInt64) { $0.addedClamped(UInt64($1.value) ?? 0) }
        let prefix = "errors_"
        let kinds = stats.filter { $0.key.hasPrefix(prefix) && $0.value != "0" }
            .map { "\($0.value) \($0.key.dropFirst(prefix.count))" }
        let text =
            "\(errors) of \(requests) requests were refused since the start"
            + (kinds.isEmpty ? "." : ": \(kinds.joined(separator: ", ")).")
        return Finding(errors > requests / 10 && errors >= 100 ? .note : .ok, text)
    }

    private var machineFindings: [Finding] {
        guard let machine else { return [] }
        var findings: [Finding] = []
        if let used = machine.descriptors, let limit = machine.descriptorsMax {
            findings.append(
                limited(
                    used, limit, { "The daemon has \(used) of \(limit) descriptors open, \($0)." },
                    "Raise its limit (LimitNOFILE, ulimit -n)."))
        }
        if let used = machine.mappings, let limit = machine.mappingsMax {
            findings.append(
                limited(
                    used, limit, { "The daemon has \(used) of \(limit) mappings, \($0)." },
                    "Raise vm.max_map_count."))
        }
        if let choice = machine.sharedHugePages {
            let isOff = choice == "never" || choice == "deny"
            findings.append(
                isOff
                    ? Finding(
                        .note,
                        "Shared memory has no huge pages (shmem_enabled is \(choice)): mapped "
                            + "memory is slower to touch; advise turns them on.")
                    : Finding(.ok, "Shared memory may have huge pages (\(choice))."))
        }
        if machine.overcommit == 2 {
            findings.append(
                Finding(
                    .note,
                    "vm.overcommit_memory is 2: the system may refuse memory before memory-max is "
                        + "reached, and holes of shared memory are not free."))
        }
        return findings
    }
}

extension UInt64 {
    /// The sum, or the largest number where it would be larger.
    fileprivate func addedClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
