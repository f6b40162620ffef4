// Where the programs are that are measured.

import ArgumentParser
import Foundation

/// Where the programs are.
struct ProgramOptions: ParsableArguments {
    @Option(help: "The daemon (default: smallocd beside this program).") var smallocd: String?
    @Option(help: "The Redis server.") var redisServer = "redis-server"
    @Option(help: "The memcached server.") var memcached = "memcached"
    @Option(help: "nbdkit, with its memory plugin.") var nbdkit = "nbdkit"
    @Option(help: "Further options for smallocd, separated by spaces.")
    var serverOptions = ""

    func programs() throws -> Programs {
        var own = try executablePath().split(separator: "/").dropLast().map(String.init)
        own.append("smallocd")
        return Programs(
            smallocd: smallocd ?? "/" + own.joined(separator: "/"), redis: redisServer,
            memcached: memcached, nbdkit: nbdkit,
            serverOptions: serverOptions.split(separator: " ").map(String.init))
    }

    /// Whether a program can be run, by its path or by looking through `PATH`.
    static func isThere(_ program: String) -> Bool {
        if program.contains("/") { return access(program, X_OK) == 0 }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }
}
