/// A server and the protocol that it is spoken to in.
struct Contestant: Sendable {
    let kind: ServerKind
    let dialect: any Dialect
    /// What tables call it.
    let label: String
    /// Options of the server beside those of its kind.
    var options: [String] = []
    /// The daemon's executable, where it is not the one that is measured.
    var executable: String?

    static let smallocd = Contestant(
        kind: .smallocd, dialect: SmallocDialect(), label: "smallocd")
    /// Another build of the daemon, to compare the one that is measured with.
    static func other(_ executable: String) -> Contestant {
        Contestant(
            kind: .smallocd, dialect: SmallocDialect(), label: otherLabel, executable: executable)
    }
    static let otherLabel = "other smallocd"
    static let redis = Contestant(kind: .redis, dialect: RESPDialect(), label: "redis")
    static let memcached = Contestant(
        kind: .memcached, dialect: MemcachedDialect(), label: "memcached")
    static let nbdkit = Contestant(kind: .nbdkit, dialect: NBDDialect(), label: "nbdkit")
    /// The daemon and its peers.
    static let all = [smallocd, redis, memcached, nbdkit]
    /// The daemon as it is where nothing is to be spent on waiting: as the peers, it sleeps when
    /// there is nothing to do, and is woken.
    static let sleeping = Contestant(
        kind: .smallocd, dialect: SmallocDialect(), label: "smallocd, busy-poll 0",
        options: ["--busy-poll", "0"])
    /// The raw exchange of the daemon's own requests and replies, in plain C.
    static let raw = Contestant(kind: .null, dialect: SmallocDialect(), label: "raw C")
    /// The same for the peers' protocols, only to see what the load generator can drive.
    static let rawRESP = Contestant(kind: .null, dialect: RESPDialect(), label: "raw C, RESP")
    static let rawMemcached = Contestant(
        kind: .null, dialect: MemcachedDialect(), label: "raw C, memcached")

    /// Whether it greets and knows allocations.
    var isServer: Bool { kind != .null }

    /// Whether it is the daemon as it is by default.
    var isMeasured: Bool { kind == .smallocd && options.isEmpty && executable == nil }

    /// The program and its arguments; nil for the null server, which each point sets up.
    func arguments(_ address: Address, threads: Int, programs: Programs) -> [String]? {
        var programs = programs
        if let executable { programs.smallocd = executable }
        return kind.arguments(address, threads: threads, programs: programs).map { $0 + options }
    }

    /// Whether it has more than a disk to read and write: things that are made, and disposed of.
    var hasNames: Bool { kind != .nbdkit }

    /// Connects and greets.
    func connect(to server: ServerProcess) throws -> Wire {
        try Wire(to: server.address, speaking: dialect, greeting: isServer)
    }
}
