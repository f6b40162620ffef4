// The one table of what can be set: key, default, how it is read and shown. The command line's
// options, the environment's variables and the file's keys all go through it, so a value means the
// same wherever it stands.

import Logging
import SmallocSystem
import SmallocWire

/// One thing that can be set, by the same word everywhere: `memory-max` in the configuration file,
/// `--memory-max` on the command line, `SMALLOCD_MEMORY_MAX` in the environment.
struct Setting: Sendable {
    /// The word.
    let key: String
    /// What holds if it is not set, as it would be written in the file.
    ///
    /// nil for `listen`, whose default depends on `XDG_RUNTIME_DIR`.
    let standard: String?
    /// Whether a running daemon takes a new value on SIGHUP.
    let isRereadable: Bool
    /// Reads values, one for all keys but `listen`, into the settings.
    ///
    /// Throws the reason why not.
    let apply: @Sendable ([String], inout Settings, Machine) throws(InvalidValue) -> Void
    /// The effective value, as it would be written in the file.
    let show: @Sendable (Settings) -> String

    /// The environment's name for it.
    var variable: String {
        Setting.variablePrefix + key.uppercased().replacing("-", with: "_")
    }

    /// What the names of environment variables begin with.
    static let variablePrefix = "SMALLOCD_"

    /// The entry of a key, or nil for a word that is no key.
    static func named(_ key: String) -> Setting? {
        all.first { $0.key == key }
    }
}

/// Why a text is no value for a setting: a clause that follows "memory-max: ".
struct InvalidValue: Error, Equatable {
    /// The clause.
    let reason: String
}

extension Setting {
    /// Every setting, in the order in which they are applied and shown.
    ///
    /// `memory-max` stands before `length-max`, which may be a part of it.
    static let all: [Setting] = [
        listen,
        socketMode,
        loops,
        busyPoll,
        zeroCopy,
        logLevel,
        Setting(
            key: "memory-max", standard: "80%", isRereadable: true,
            apply: { values, settings, machine throws(InvalidValue) in
                settings.limits.memorySizeMax = try size(values, of: machine.memorySize)
            },
            show: { ByteSize.text($0.limits.memorySizeMax) }),
        Setting(
            key: "length-max", standard: "100%", isRereadable: true,
            apply: { values, settings, _ throws(InvalidValue) in
                settings.limits.lengthSizeMax = try size(values, of: settings.limits.memorySizeMax)
            },
            show: { ByteSize.text($0.limits.lengthSizeMax) }),
        // 2^26: the tables of names have 1024 shards with 2^16 places to begin a search each. With
        // more names than that, names begin to share places, and each look-up to compare several.
        count("allocations-max", 16_777_216, \.allocationsMax, 1...67_108_864),
        count("connections-max", 65_536, \.connectionsMax, 1...16_777_216),
        bytes("frame-size-max", "1G", \.frameSizeMax, 4096...0xFFFF_FFFF),
        count("requests-in-flight-max", 4096, \.requestsInFlightMax, 1...1_048_576),
        count("handles-max", 1_048_576, \.handlesMax, 1...0xFFFF_FFFF),
        bytes("output-size-max", "1M", \.outputSizeMax, 4096...0xFFFF_FFFF),
        bytes("line-size-max", "1M", \.lineSizeMax, 512...0xFFFF_FFFF),
        count("name-size-max", 255, \.nameSizeMax, 1...255),
        time("idle-timeout", "0", \.idleTimeoutMilliseconds),
        time("request-timeout", "30", \.requestTimeoutMilliseconds),
        http,
        httpNames,
        slowLogThreshold,
        slowLogLength,
    ]

    private static let listen = Setting(
        key: "listen", standard: nil, isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            guard !values.isEmpty else { throw InvalidValue(reason: "needs an address") }
            var addresses: [Address] = []
            for value in values {
                let address = try address(value)
                guard !addresses.contains(address) else {
                    throw InvalidValue(reason: "\(quoted(value)) is given twice")
                }
                addresses.append(address)
            }
            settings.addresses = addresses
            settings.addressesAreDefault = false
        },
        show: { settings in
            "[" + settings.addresses.map { yamlString("\($0)") }.joined(separator: ", ") + "]"
        })

    private static let socketMode = Setting(
        key: "socket-mode", standard: "0600", isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            guard let mode = UInt32(text, radix: 8), mode <= 0o777, !text.hasPrefix("+") else {
                throw InvalidValue(
                    reason: "\(quoted(text)) is not an octal mode from 0000 to 0777")
            }
            settings.socketMode = mode
        },
        show: { settings in
            let digits = String(settings.socketMode, radix: 8)
            return String(repeating: "0", count: 4 - digits.count) + digits
        })

    private static let loops = Setting(
        key: "loops", standard: "auto", isRereadable: false,
        apply: { values, settings, machine throws(InvalidValue) in
            let text = try single(values)
            settings.loops =
                text == "auto"
                ? max(1, machine.cores - 1)
                : Int(try whole(text, 1...256, or: "auto"))
        },
        show: { String($0.loops) })

    private static let busyPoll = Setting(
        key: "busy-poll", standard: "50us", isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            let span = try TimeSpan.parseMicroseconds(text)
            guard span <= 10_000 else {
                throw InvalidValue(reason: "\(quoted(text)) is longer than 10ms")
            }
            settings.busyPollMicroseconds = span
        },
        show: { TimeSpan.text(microseconds: $0.busyPollMicroseconds) })

    private static let zeroCopy = Setting(
        key: "zero-copy", standard: ZeroCopy.sameUser.rawValue, isRereadable: false,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            guard let choice = ZeroCopy(rawValue: text) else {
                let words = ZeroCopy.allCases.map(\.rawValue).joined(separator: ", ")
                throw InvalidValue(reason: "\(quoted(text)) is none of \(words)")
            }
            settings.zeroCopy = choice
        },
        show: { $0.zeroCopy.rawValue })

    private static let logLevel = Setting(
        key: "log-level", standard: "info", isRereadable: true,
        apply: { values, settings, _ throws(InvalidValue) in
            let text = try single(values)
            guard let level = Logger.Level(rawValue: text.lowercased()) else {
                let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
                throw InvalidValue(reason: "\(quoted(text)) is none of \(levels)")
            }
            settings.logLevel = level
        },
        show: { $0.logLevel.rawValue })

    private static func count(
        _ key: String, _ standard: UInt64,
        _ path: any WritableKeyPath<Limits, UInt64> & Sendable, _ range: ClosedRange<UInt64>
    ) -> Setting {
        Setting(
            key: key, standard: String(standard), isRereadable: true,
            apply: { values, settings, _ throws(InvalidValue) in
                settings.limits[keyPath: path] = try whole(try single(values), range)
            },
            show: { String($0.limits[keyPath: path]) })
    }

    private static func bytes(
        _ key: String, _ standard: String,
        _ path: any WritableKeyPath<Limits, UInt64> & Sendable, _ range: ClosedRange<UInt64>
    ) -> Setting {
        Setting(
            key: key, standard: standard, isRereadable: true,
            apply: { values, settings, _ throws(InvalidValue) in
                let text = try single(values)
                let size = try ByteSize.parse(text)
                guard range.contains(size) else {
                    let least = ByteSize.text(range.lowerBound)
                    throw InvalidValue(
                        reason: "\(quoted(text)) is not in the range \(least)"
                            + " to \(range.upperBound) bytes")
                }
                settings.limits[keyPath: path] = size
            },
            show: { ByteSize.text($0.limits[keyPath: path]) })
    }

    private static func time(
        _ key: String, _ standard: String,
        _ path: any WritableKeyPath<Limits, UInt64> & Sendable
    ) -> Setting {
        Setting(
            key: key, standard: standard, isRereadable: true,
            apply: { values, settings, _ throws(InvalidValue) in
                settings.limits[keyPath: path] = try TimeSpan.parse(try single(values))
            },
            show: { TimeSpan.text($0.limits[keyPath: path]) })
    }
}

// MARK: - Reading values

extension Setting {
    static func single(_ values: [String]) throws(InvalidValue) -> String {
        guard values.count == 1, let value = values.first else {
            throw InvalidValue(reason: "takes one value, not \(values.count)")
        }
        guard !value.isEmpty else { throw InvalidValue(reason: "needs a value") }
        return value
    }

    static func whole(
        _ text: String, _ range: ClosedRange<UInt64>, or word: String? = nil
    ) throws(InvalidValue) -> UInt64 {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt64(text),
            range.contains(number)
        else {
            let words = word.map { "\($0) or " } ?? ""
            throw InvalidValue(
                reason: "\(quoted(text)) is not \(words)a whole number from \(range.lowerBound)"
                    + " to \(range.upperBound)")
        }
        return number
    }

    private static func size(_ values: [String], of whole: UInt64) throws(InvalidValue) -> UInt64 {
        let text = try single(values)
        let size = try ByteSize.parse(text, percentageOf: whole)
        // Sizes are signed 64-bit numbers in the operating system's calls.
        guard (1...UInt64(Int64.max)).contains(size) else {
            throw InvalidValue(reason: "\(quoted(text)) is not in the range 1 to 2^63 - 1 bytes")
        }
        return size
    }

    static func address(_ text: String) throws(InvalidValue) -> Address {
        guard !isSeveral(text) else {
            throw InvalidValue(
                reason: "\(quoted(text)) is more than one address: they are items of a list, or"
                    + " options of their own")
        }
        guard let address = Address(text) else {
            throw InvalidValue(
                reason: "\(quoted(text)) is not an address"
                    + " (unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT)")
        }
        if case .unix(let path) = address, path.utf8.count > UnixAddress.pathSizeMax {
            throw InvalidValue(
                reason: "\(quoted(text)): the path has \(path.utf8.count) bytes, a socket's path"
                    + " may have \(UnixAddress.pathSizeMax)")
        }
        return address
    }

    /// Whether a comma is followed by another address, which would be a part of the path.
    private static func isSeveral(_ text: String) -> Bool {
        text.split(separator: ",").dropFirst().contains { part in
            let word = part.drop { $0 == " " }
            return word.hasPrefix("unix:") || word.hasPrefix("tcp:")
        }
    }
}

/// A text as a double-quoted scalar of YAML.
func yamlString(_ text: String) -> String {
    "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
}

/// A value as it stands in a message: quoted, on one line.
func quoted(_ text: String) -> String {
    "'\(escaped(text.utf8))'"
}
