// What can be set of monitoring: the HTTP listener with its socket, and the slow log.

import SmallocCore
import SmallocWire

extension Setting {
    static let http = Setting(
        key: "http", standard: "off", isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            guard text != "off" else {
                settings.http = nil
                return
            }
            let address = try address(text)
            if case .tcp(host: let host, port: let port) = address {
                guard let own = loopback[host] else {
                    throw InvalidValue(
                        reason: "\(quoted(text)) is not an address of this machine alone"
                            + " (127.0.0.1, [::1] or localhost): HTTP has neither encryption nor"
                            + " passwords")
                }
                settings.http = .tcp(host: own, port: port)
            } else {
                settings.http = address
            }
        },
        show: { settings in settings.http.map { yamlString("\($0)") } ?? "off" })

    /// Hosts that HTTP is served at, and the address of each.
    private static let loopback = [
        "127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1",
    ]

    static let httpNames = Setting(
        key: "http-names", standard: "no", isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            switch text {
            case "yes": settings.httpTellsNames = true
            case "no": settings.httpTellsNames = false
            default: throw InvalidValue(reason: "\(quoted(text)) is neither yes nor no")
            }
        },
        show: { $0.httpTellsNames ? "yes" : "no" })

    static let slowLogThreshold = Setting(
        key: "slowlog-threshold", standard: "100ms", isRereadable: true,
        apply: { values, settings, _ throws(InvalidValue) in
            settings.slowLogThreshold = try TimeSpan.parseMicroseconds(try single(values))
        },
        show: { TimeSpan.text(microseconds: $0.slowLogThreshold) })

    static let slowLogLength = Setting(
        key: "slowlog-length", standard: "128", isRereadable: true,
        apply: { values, settings, _ throws(InvalidValue) in
            settings.slowLogLength = Int(
                try whole(try single(values), 0...UInt64(SlowLog.lengthMax)))
        },
        show: { String($0.slowLogLength) })
}

extension Settings {
    /// Listens where HTTP is to be served.
    ///
    /// - Parameter sockets: Those of the data, which no HTTP listener shares.
    /// - Returns: Nil: nowhere.
    /// - Throws: A `StartFailure`, as for other listeners.
    func openHTTP(beside sockets: [ListeningSocket]) throws(StartFailure) -> ListeningSocket? {
        guard let http else { return nil }
        // Of its user alone, whatever the sockets of the data are.
        let made = try ListeningSocket.open(http, mode: 0o600, beside: sockets)
        guard let socket = made.first else {
            throw .unavailable("\(http): data is served there already, and HTTP is not beside it")
        }
        return socket
    }
}
