// What can be known of a start before it: `--check-config` asks, so that what it passes starts,
// short of what only binding can tell.

import SmallocSystem
import SmallocWire

extension Settings {
    /// Looks for what would keep the daemon from starting, and opens nothing.
    ///
    /// - Parameter descriptorsMax: File descriptors that the daemon may open.
    /// - Throws: The `StartFailure` that a start would throw: too few descriptors, then a path
    ///   that is too long, then the first host that can't be resolved.
    func checkStart(descriptorsMax: UInt64) throws(StartFailure) {
        try checkDescriptors(max: descriptorsMax)
        for case .unix(let path) in addresses { try UnixAddress.check(path) }
        if case .unix(let path) = http { try UnixAddress.check(path) }
        for case .tcp(host: let host, port: let port) in addresses {
            _ = try ListeningSocket.resolve(host: host, port: port)
        }
    }

    /// Refuses a limit of descriptors with which loops and listeners could not be made.
    func checkDescriptors(max: UInt64) throws(StartFailure) {
        let needed =
            Machine.descriptorsNeeded(loops: loops, addresses: addresses.count)
            + (http == nil ? 0 : UInt64(HTTPServer.descriptorsMax))
        guard max >= needed else {
            throw .system("the limit of open files is \(max), at least \(needed) are needed")
        }
    }
}
