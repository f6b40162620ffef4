// Where a daemon listens and a client connects, as people write it.

/// A connection string: `unix:PATH` or `tcp:HOST:PORT` (`tcp:[::1]:PORT`).
public enum Address: Hashable, Sendable, CustomStringConvertible {
    case unix(path: String)
    case tcp(host: String, port: UInt16)

    /// Reads a connection string; nil if it is none.
    ///
    /// A path must not be empty; IPv6 is in brackets. A host is made of letters, digits, `-`, `.`,
    /// `_`, and in brackets `:` and `%`, or is a star.
    public init?(_ text: String) {
        if text.hasPrefix("unix:") {
            let path = text.dropFirst(5)
            guard !path.isEmpty, !path.utf8.contains(0) else { return nil }
            self = .unix(path: String(path))
        } else if text.hasPrefix("tcp:") {
            let rest = text.dropFirst(4)
            guard let colon = rest.lastIndex(of: ":") else { return nil }
            let digits = rest[rest.index(after: colon)...]
            guard !digits.isEmpty, digits.allSatisfy({ "0" <= $0 && $0 <= "9" }),
                let port = UInt16(digits)
            else { return nil }
            var host = rest[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                return nil
            }
            guard host == "*" || !host.isEmpty && host.utf8.allSatisfy(Address.isOfHost) else {
                return nil
            }
            self = .tcp(host: String(host), port: port)
        } else {
            return nil
        }
    }

    /// Names and numbers of hosts have no other bytes; `//` is what URLs have before them.
    private static func isOfHost(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "%"):
            true
        default: false
        }
    }

    /// Where a daemon that is told nothing listens, and where clients look for it.
    ///
    /// - Parameter runtimeDirectory: The value of `XDG_RUNTIME_DIR`, if it is set.
    public static func standard(runtimeDirectory: String?) -> Address {
        if let runtimeDirectory, !runtimeDirectory.isEmpty {
            return .unix(path: runtimeDirectory + "/smallocd.sock")
        }
        return .unix(path: "/run/smallocd/smallocd.sock")
    }

    /// The connection string that reads back to this.
    public var description: String {
        switch self {
        case .unix(let path): "unix:\(path)"
        case .tcp(let host, let port):
            host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
        }
    }
}
