// Subcommands about clients and what they did.

import ArgumentParser
import Smalloc

struct Clients: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show who is connected to the daemon.",
        discussion: """
            The daemon's own user and root see all connections, others those of their user. \
            WAITING is bytes that wait in the daemon, READ and WRITTEN bytes received from and \
            sent to the client.
            """)

    @OptionGroup var common: CommonOptions

    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        let clients = try daemon.clients()
        if common.json {
            for client in clients { try Output.standard.write(json(client).text + "\n") }
        } else {
            let rows = clients.map { client in
                [
                    "\(client.id)", client.user.map { "\($0)" } ?? "-",
                    client.process.map { "\($0)" } ?? "-", client.mode, client.transport,
                    decimal(client.age, 0), "\(client.handles)", "\(client.waitingSize)",
                    "\(client.maps)", client.isPaused ? "yes" : "no", "\(client.readSize)",
                    "\(client.writtenSize)", "\(client.requests)", client.program,
                ]
            }
            let head = [
                "ID", "UID", "PID", "MODE", "TRANSPORT", "AGE", "HANDLES", "WAITING", "MAPS",
                "PAUSED", "READ", "WRITTEN", "REQUESTS", "PROGRAM",
            ]
            let right = [
                true, true, true, false, false, true, true, true, true, false, true, true, true,
                false,
            ]
            try Output.standard.write(tableText([head] + rows, right: right))
        }
        try Output.standard.flush()
    }

    private func json(_ client: Smalloc.Client) -> JSON {
        .object([
            ("id", .integer(Int(clamping: client.id))),
            ("uid", client.user.map { .integer(Int($0)) } ?? .null),
            ("pid", client.process.map { .integer(Int($0)) } ?? .null),
            ("program", .string(client.program)), ("mode", .string(client.mode)),
            ("transport", .string(client.transport)), ("age", .number(client.age)),
            ("handles", .integer(client.handles)), ("waiting", .integer(client.waitingSize)),
            ("maps", .integer(client.maps)),
            ("paused", .string(client.isPaused ? "yes" : "no")),
            ("read", .integer(client.readSize)), ("written", .integer(client.writtenSize)),
            ("requests", .integer(client.requests)),
        ])
    }
}

struct Slowlog: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the requests that took long, the youngest first.",
        discussion: """
            The daemon notes those from its slowlog-threshold on. A name is shown to the user \
            that the allocation belongs to, to the daemon's own, and to root.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Entries at most.") var count: Int?

    var streams: [Stream] { [.output] }

    func validate() throws {
        guard count ?? 1 >= 0 else { throw ValidationError("COUNT takes 0 or more") }
    }

    func run(_ daemon: Smalloc) throws {
        let log = try daemon.slowlog(count ?? .max)
        if common.json {
            for entry in log.entries { try Output.standard.write(json(entry).text + "\n") }
        } else {
            let rows = log.entries.map { entry in
                [
                    "\(entry.id)", decimal(entry.time, 3), entry.operation,
                    decimal(entry.duration, 3), "\(entry.size)", entry.waited,
                    entry.name.isEmpty ? "-" : entry.name,
                ]
            }
            let head = ["ID", "TIME", "OPERATION", "SECONDS", "SIZE", "WAITED", "NAME"]
            try Output.standard.write(
                tableText([head] + rows, right: [true, true, false, true, true, false, false]))
        }
        try Output.standard.flush()
    }

    private func json(_ entry: Smalloc.SlowLog.Entry) -> JSON {
        .object([
            ("id", .integer(Int(clamping: entry.id))), ("time", .number(entry.time)),
            ("operation", .string(entry.operation)), ("name", .string(entry.name)),
            ("size", .integer(entry.size)), ("duration", .number(entry.duration)),
            ("waited", .string(entry.waited)),
        ])
    }
}
