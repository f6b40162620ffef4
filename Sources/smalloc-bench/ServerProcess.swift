import CBench
import Foundation

/// A server that the bench started, on its own socket, on given processors.
///
/// It is stopped by its process id when this object goes, and killed if the bench dies.
final class ServerProcess {
    let kind: ServerKind
    let address: Address
    let identifier: pid_t
    private let directory: String
    /// It has been waited for: its number may be another's by now.
    private var hasEnded = false

    /// Starts the server and waits until it accepts connections, at most 20 s.
    ///
    /// - Parameter arguments: the program and its arguments, given the address.
    init(
        _ kind: ServerKind, tcp: Bool = false, processors: [Int],
        arguments: (Address) throws -> [String]?
    ) throws {
        self.kind = kind
        directory = try TemporaryFolder.make()
        address = tcp ? try .freeTCP() : .unix(directory + "/socket")
        guard let words = try arguments(address) else {
            throw BenchError.setup("no command for \(kind.rawValue)")
        }
        var pointers = words.map { strdup($0) } + [nil]
        let log = directory + "/log"
        let places = processors.map { Int32($0) }
        identifier = cbench_spawn(&pointers, places, Int32(places.count), log)
        for pointer in pointers { free(pointer) }
        guard identifier > 0 else { throw BenchError.last("fork") }
        try waitUntilListening(log: log, command: words.joined(separator: " "))
    }

    deinit { stop() }

    private func waitUntilListening(log: String, command: String) throws {
        let deadline = clockNanoseconds() + 20_000_000_000
        while true {
            if (try? Wire(to: address, speaking: RESPDialect())) != nil { return }
            var status: Int32 = 0
            hasEnded = waitpid(identifier, &status, WNOHANG) == identifier
            if hasEnded || clockNanoseconds() > deadline {
                let said = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
                throw BenchError.setup("`\(command)` does not listen: \(said.suffix(600))")
            }
            usleep(10_000)
        }
    }

    /// Asks the process to end, and kills it if it has not after 10 s.
    private func stop() {
        if !hasEnded, identifier > 0 {
            kill(identifier, SIGTERM)
            var status: Int32 = 0
            for _ in 0..<1000 where !hasEnded {
                hasEnded = waitpid(identifier, &status, WNOHANG) != 0
                if !hasEnded { usleep(10_000) }
            }
            if !hasEnded {
                kill(identifier, SIGKILL)
                waitpid(identifier, &status, 0)
            }
        }
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Returns when it has needed next to no processor time for a third of a second, or after 20
    /// seconds.
    func waitUntilIdle() {
        var quiet = 0
        var before = processorNanoseconds()
        for _ in 0..<200 where quiet < 3 {
            usleep(100_000)
            let now = processorNanoseconds()
            quiet = now - before < 1_000_000 ? quiet + 1 : 0
            before = now
        }
    }

    /// Processor time that all threads of the server have used, in nanoseconds.
    ///
    /// From the scheduler's own account where the kernel keeps one, else from the clock ticks
    /// (10 ms each) of `stat`.
    func processorNanoseconds() -> Double {
        let tasks = "/proc/\(identifier)/task"
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
        var sum = 0.0
        for thread in threads {
            guard
                let text = try? String(
                    contentsOfFile: "\(tasks)/\(thread)/schedstat", encoding: .utf8),
                let first = text.split(separator: " ").first, let value = Double(first)
            else { return processorTicks() * 1e9 / Double(sysconf(Int32(_SC_CLK_TCK))) }
            sum += value
        }
        return sum
    }

    private func processorTicks() -> Double {
        guard let text = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return 0 }
        let fields = text[end...].split(separator: " ")
        return fields.count > 13 ? (Double(fields[12]) ?? 0) + (Double(fields[13]) ?? 0) : 0
    }

    /// Resident memory now and at its highest, in bytes.
    func residentSizes() -> (now: Double, peak: Double) {
        let text =
            (try? String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)) ?? ""
        func kibibytes(_ field: String) -> Double {
            for line in text.split(separator: "\n") where line.hasPrefix(field) {
                let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
                return words.count > 1 ? (Double(words[1]) ?? 0) * 1024 : 0
            }
            return 0
        }
        return (kibibytes("VmRSS:"), kibibytes("VmHWM:"))
    }

    /// Forgets the highest resident size so far.
    func resetPeak() {
        try? "5".write(toFile: "/proc/\(identifier)/clear_refs", atomically: false, encoding: .utf8)
    }
}
