// Subcommands about names that other programs give: to wait for one, to ask for one.

import ArgumentParser
import Smalloc

struct Exists: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell by the exit code whether there is an allocation of a name.",
        discussion: "0 if there is, 1 if not, and nothing is printed; as test -e does for files.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String

    func run(_ daemon: Smalloc) throws {
        guard try about(name, { try daemon.exists(name) }) else { throw ExitCode(1) }
    }
}

struct Await: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until there is an allocation of a name.",
        discussion: """
            Ends at once where there is. What is there for a moment only is enough. Where the time \
            is up the exit code is 1. Ctrl-C ends it, and takes the wait back.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Flag(help: "Until it can't be changed any more: see freeze.") var frozen = false
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "Seconds to wait at the most; for as long as it takes, if not given.",
            valueName: "seconds"))
    var seconds: Double?

    func validate() throws {
        if let seconds, !(seconds >= 0 && seconds <= 1e9) {
            throw ValidationError("--for takes 0 to 1000000000 seconds")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let (name, frozen, seconds) = (name, frozen, seconds)
        try about(name) {
            // In a way that an interrupt takes back: on a connection for tasks.
            try Interrupt.cancelling { () async throws(SmallocError) in
                let tasks = try await AsyncSmalloc(address: daemon.address, options: daemon.options)
                // What is waited for is not the daemon's delay.
                if let seconds { TimeLimit.restart(adding: seconds) } else { _ = TimeLimit.pause() }
                _ = try await tasks.open(
                    name, frozen: frozen,
                    timeout: seconds.map { Duration.nanoseconds(Int64($0 * 1e9)) })
            }
        }
    }
}
