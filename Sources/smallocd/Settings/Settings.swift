// What the daemon was told to do, checked: plain values, whatever they came from. How they are told
// (command line, environment, file) is in Setting.swift and LoadedSettings.swift; what they mean
// while the daemon runs is the server's and the registry's.

import Logging
import SmallocWire

/// The daemon's settings, all checked and all with a value.
struct Settings: Sendable, Equatable {
    /// Addresses to listen at, in the order given.
    ///
    /// Never empty.
    var addresses: [Address]
    /// Whether no address was named, so that `addresses` is the default one.
    ///
    /// Sockets handed over by the service manager then take its place.
    var addressesAreDefault: Bool
    /// Permission bits of every Unix socket, 0 to 0o777.
    var socketMode: UInt32 = 0o600
    /// Loops, a thread each.
    ///
    /// At least 1.
    var loops = 1
    /// How long a loop that is busy asks for more before it sleeps; 0: not at all.
    ///
    /// See `BusyPoll`.
    var busyPollMicroseconds: UInt64 = 0
    /// Accepted, and without effect: files of earlier times may set it.
    var zeroCopy = ZeroCopy.sameUser
    /// Where HTTP is served; nil: nowhere.
    var http: Address?
    /// Whether HTTP tells names over TCP, too.
    var httpTellsNames = false
    /// Microseconds from which on a request is in the slow log.
    var slowLogThreshold: UInt64 = 100_000
    /// Entries of the slow log.
    var slowLogLength = 128
    /// Events below this level are not logged.
    var logLevel = Logger.Level.info
    /// Every maximum.
    var limits = Limits()

    /// The settings as lines of the configuration file, a key a line, with effective values.
    ///
    /// Loading the text again yields equal settings, but that its addresses are no default any
    /// more.
    var text: String {
        Setting.all.map { "\($0.key): \($0.show(self))" }.joined(separator: "\n")
    }

    /// What holds if nothing is set.
    ///
    /// - Parameters:
    ///   - machine: What percentages and `auto` refer to.
    ///   - runtimeDirectory: The value of `XDG_RUNTIME_DIR`, if it is set.
    /// - Returns: Settings in which every value is its default.
    static func standard(machine: Machine, runtimeDirectory: String?) -> Settings {
        var settings = Settings(
            addresses: [.standard(runtimeDirectory: runtimeDirectory)], addressesAreDefault: true)
        for setting in Setting.all {
            guard let value = setting.standard else { continue }
            do {
                try setting.apply([value], &settings, machine)
            } catch {
                preconditionFailure("the default of \(setting.key) \(error.reason)")
            }
        }
        return settings
    }
}
