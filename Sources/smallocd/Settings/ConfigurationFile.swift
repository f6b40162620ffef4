// The configuration file: read whole, all of its keys known, its values as texts with their lines.

/// A configuration file that was read, and whose keys are all known.
struct ConfigurationFile: Sendable {
    /// Where it was read from, for messages.
    let path: String
    private let entries: [String: ConfigurationEntry]

    /// Most bytes of a configuration file: a hundred times what a full one takes.
    private static let sizeMax = 1 << 20

    /// Reads a file.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - keys: All keys that it may hold.
    /// - Throws: A `StartFailure` that names the file, and the line where it is about one.
    init(path: String, keys: [String]) throws(StartFailure) {
        let bytes: [UInt8]
        do {
            bytes = try readFile(path, sizeMax: ConfigurationFile.sizeMax)
        } catch {
            throw .configuration("\(path): \(error.reason)")
        }
        try self.init(path: path, bytes: bytes, keys: keys)
    }

    /// Takes bytes for a file's contents.
    init(path: String, bytes: [UInt8], keys: [String]) throws(StartFailure) {
        self.path = path
        var entries: [String: ConfigurationEntry] = [:]
        do throws(ConfigurationError) {
            for entry in try ConfigurationText.read(bytes) {
                guard keys.contains(entry.key) else {
                    throw ConfigurationError(
                        line: entry.line, reason: "\(escaped(entry.key.utf8)): no such key")
                }
                entries[entry.key] = entry
            }
        } catch {
            throw .configuration("\(path):\(error.line): \(error.reason)")
        }
        self.entries = entries
    }

    /// What a key is set to, and where; nil if the file doesn't set it.
    func entry(of key: String) -> ConfigurationEntry? { entries[key] }
}
