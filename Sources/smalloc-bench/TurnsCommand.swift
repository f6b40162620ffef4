// Measuring how long one client makes the others wait.

import ArgumentParser
import Foundation

/// Shows the longest turn of a loop under each of the loads that one client may bring.
struct TurnsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "turns",
        abstract: "Measures how long one client's work keeps a loop from the others.",
        discussion: """
            Starts a smallocd with one loop for each work, and shows the longest turn of that loop \
            as stats tells it, in microseconds of its thread's processor time (0: under half a \
            millisecond), beside how long another process waited for pings meanwhile. Making what \
            the work needs counts in the turn, and is not seen by the pings. Only the turn is \
            judged: the waits depend on what else runs on the machine. Ends with 1 if a turn is \
            longer than \(mark) us.
            """)

    /// The longest turn that passes, in microseconds of processor time.
    static let mark = 5_000

    @Option(help: "Which works, a pattern as of a shell; may be repeated. See --list.")
    var works: [String] = []
    @Flag(help: "Only prints the names of the works.") var list = false
    @Option(help: "How often each is done.") var rounds = 3
    @OptionGroup var places: ProgramOptions

    func validate() throws {
        guard rounds >= 1, rounds <= 1000 else {
            throw ValidationError("--rounds takes 1 to 1000")
        }
    }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        let wanted = TurnWorks().all.filter { work in
            works.isEmpty || works.contains { fnmatch($0, work.name, 0) == 0 }
        }
        guard !wanted.isEmpty else {
            throw ValidationError("no work has such a name; --list prints all")
        }
        if list {
            for work in wanted { print(work.name) }
            return
        }
        RunCommand.raiseDescriptorLimit()
        let programs = try places.programs()
        var table = Table([
            "one client's work", "longest turn us", "pings", "p50 us", "p99 us", "longest us", "",
        ])
        var isOver = false
        for work in wanted {
            log(work.name)
            do {
                let (turn, waits) = try measure(work, programs)
                if turn > Self.mark { isOver = true }
                table.add([
                    work.name, "\(turn)", "\(waits.count)", Table.number(waits.p50 / 1000),
                    Table.number(waits.p99 / 1000), Table.number(waits.longest / 1000),
                    turn > Self.mark ? "OVER" : "ok",
                ])
            } catch {
                isOver = true
                table.add([work.name, "-", "-", "-", "-", "-", "FAILED: \(error)"])
            }
        }
        print(table.text)
        print("The mark is \(Self.mark) us of processor time.")
        if isOver { throw ExitCode(1) }
    }

    /// The longest turn of a fresh daemon, in microseconds, and what another process waited.
    private func measure(_ work: TurnWork, _ programs: Programs) throws -> (Int, Waits) {
        let placement = Placement(available: Placement.available(), serverCount: 1)
        guard placement.pinLoad() else {
            throw BenchError.setup("the load could not be bound to its processor")
        }
        let server = try ServerProcess(.smallocd, processors: placement.servers) {
            ServerKind.smallocd.arguments($0, threads: 1, programs: programs)
        }
        let round = try work.prepare(server.address)
        let waits = try Waits.measure(server, on: placement.load) {
            for _ in 0..<rounds { try round() }
            // What a work leaves behind is work of the daemon, too.
            usleep(500_000)
        }
        server.waitUntilIdle()
        let wire = try Wire(to: server.address, speaking: SmallocDialect())
        return (try wire.statistic("loop_longest_turn_us"), waits)
    }
}

extension Wire {
    /// One of the numbers that `stats` tells.
    func statistic(_ key: String) throws -> Int {
        var bytes = ByteBuilder()
        SmallocDialect().frame(&bytes, magic: 0xe5, operation: SmallocDialect.Operation.stats)
        try send(iovec(iov_base: bytes.base, iov_len: bytes.count))
        let size = SmallocDialect.headerSize
        let header = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        defer { header.deallocate() }
        try receive(header, size)
        let payload = Int(header.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
        guard payload > 0, payload <= 1 << 20 else {
            throw BenchError.setup("stats has \(payload) bytes")
        }
        let text = UnsafeMutableRawBufferPointer.allocate(byteCount: payload, alignment: 8)
        defer { text.deallocate() }
        if let base = text.baseAddress { try receive(base, payload) }
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == key, let value = Int(words[1]) { return value }
        }
        throw BenchError.setup("stats does not tell \(key)")
    }
}
