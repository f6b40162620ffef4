// The configuration file: YAML through swift-configuration. Its lookups are by key, so a key that
// nobody looks up would go unnoticed; here every key of the file has to be known.

import Configuration
import Synchronization

/// A configuration file that was read, and whose keys are all known.
struct OptionsFile: Sendable {
    /// Where it was read from, for messages.
    let path: String
    private let snapshot: YAMLSnapshot?

    /// Most bytes of a configuration file: a hundred times what a full one takes.
    private static let sizeMax = 1 << 20

    /// Reads a file.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - keys: All keys that it may hold.
    /// - Throws: A `StartFailure` that names the file, and the key where it is about one.
    init(path: String, keys: [String]) throws(StartFailure) {
        let bytes: [UInt8]
        do {
            bytes = try readFile(path, sizeMax: OptionsFile.sizeMax)
        } catch {
            throw .configuration("\(path): \(error.reason)")
        }
        try self.init(path: path, bytes: bytes, keys: keys)
    }

    /// Takes bytes for a file's contents.
    init(path: String, bytes: [UInt8], keys: [String]) throws(StartFailure) {
        self.path = path
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .configuration("\(path): not UTF-8")
        }
        // A file in which everything is a comment is a file that sets nothing; the YAML reader
        // wants a mapping at the top.
        let lines = text.split(whereSeparator: \.isNewline)
        let isBlank = lines.allSatisfy { line in
            let first = line.first { !$0.isWhitespace }
            return first == nil || first == "#" || line == "---"
        }
        guard !isBlank else {
            snapshot = nil
            return
        }
        // Every key of the file goes through the reader's question whether it is a secret: that is
        // how all of them become known.
        let found = FoundKeys()
        do {
            snapshot = try YAMLSnapshot(
                data: bytes.span.bytes, providerName: path,
                parsingOptions: YAMLSnapshot.ParsingOptions(
                    secretsSpecifier: .dynamic { key, _ in
                        found.keys.withLock { $0.append(key) }
                        return false
                    }))
        } catch {
            let sentence = "\(error)".split(whereSeparator: \.isNewline).first.map(String.init)
            throw .configuration("\(path): \(singleLine(sentence ?? "not YAML"))")
        }
        for key in found.keys.withLock({ $0.sorted() }) where !keys.contains(key) {
            throw .configuration(
                "\(path): \(key.isEmpty ? "''" : escaped(key.utf8)): no such key")
        }
    }

    /// Looks a key up.
    ///
    /// - Parameter key: One of the known keys.
    /// - Returns: Its values, one or several; nil if the file doesn't set it.
    /// - Throws: A clause if the value is neither a scalar nor a list of scalars.
    func values(of key: String) throws(InvalidValue) -> [String]? {
        guard let snapshot else { return nil }
        let absolute = AbsoluteConfigKey([key])
        if let found = try? snapshot.value(forKey: absolute, type: .string),
            case .string(let value)? = found.value?.content
        {
            return [value]
        }
        do {
            let found = try snapshot.value(forKey: absolute, type: .stringArray)
            guard case .stringArray(let values)? = found.value?.content else { return nil }
            return values
        } catch {
            throw InvalidValue(reason: "neither a value nor a list of values")
        }
    }

    private final class FoundKeys: Sendable {
        let keys = Mutex<[String]>([])
    }
}
