// The text sessions of protocol/transcripts, as they are described in protocol/README.md.

import Foundation

/// One text session, step by step.
public struct Transcript: Sendable, CustomStringConvertible {
    /// What the client does, or what the daemon must do.
    public enum Step: Sendable, Equatable {
        case send([UInt8])
        case endOfInput
        /// A line of the reply, without its end; `*` stands for anything.
        case line(String)
        /// One line or more, all like this.
        case lines(String)
        case closed
    }

    public let name: String
    public let steps: [Step]

    public var description: String { name }

    /// All files, in their order.
    public static let all: [Transcript] = {
        let folder = ProjectFolder.root.appendingPathComponent("protocol/transcripts").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted().map { name in
            do {
                let data = try ProjectFolder.contents(ofProtocolFile: "transcripts/" + name)
                return try Transcript(name: name, text: String(decoding: data, as: UTF8.self))
            } catch {
                fatalError("protocol/transcripts/\(name): \(error)")
            }
        }
    }()

    /// What is wrong with a transcript.
    public struct Malformed: Error, Sendable {
        public let line: Int
    }

    /// Reads a transcript.
    public init(name: String, text: String) throws {
        self.name = name
        var steps: [Step] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line == "C:" {
                steps.append(.send([0x0A]))
            } else if line.hasPrefix("C: ") {
                steps.append(.send(Array(line.dropFirst(3).utf8) + [0x0A]))
            } else if line.hasPrefix("X: "), let bytes = bytes(hex: line.dropFirst(3)) {
                steps.append(.send(bytes))
            } else if line.hasPrefix("S: ") {
                steps.append(.line(String(line.dropFirst(3))))
            } else if line.hasPrefix("S+: ") {
                steps.append(.lines(String(line.dropFirst(4))))
            } else if line == "EOF" {
                steps.append(.endOfInput)
            } else if line == "CLOSED" {
                steps.append(.closed)
            } else {
                throw Malformed(line: index + 1)
            }
        }
        if steps.last != .closed {
            if !steps.contains(.endOfInput) { steps.append(.endOfInput) }
            steps.append(.closed)
        }
        self.steps = steps
    }

    /// All that the client sends.
    public var input: [UInt8] {
        steps.flatMap { step -> [UInt8] in
            if case .send(let bytes) = step { return bytes }
            return []
        }
    }

    /// Whether the client ends its side. If not, the daemon closes by itself.
    public var endsInput: Bool { steps.contains(.endOfInput) }

    /// What is wrong with all that the daemon answered; nil if nothing is.
    public func fault(in output: String) -> String? {
        var lines = output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard lines.popLast() == "" else { return "the last line has no end" }
        var rest = lines[...]
        for step in steps {
            switch step {
            case .line(let pattern):
                guard let line = rest.popFirst() else { return "missing: \(pattern)" }
                guard Transcript.matches(line, pattern) else {
                    return "expected: \(pattern)\n     got: \(line)"
                }
            case .lines(let pattern):
                let before = rest.count
                while let line = rest.first, Transcript.matches(line, pattern) {
                    rest.removeFirst()
                }
                guard rest.count < before else { return "missing: \(pattern)" }
            case .send, .endOfInput, .closed: break
            }
        }
        return rest.first.map { "unexpected: \($0)" }
    }

    /// Whether a line is as `pattern` says; `*` stands for any characters, or none.
    public static func matches(_ line: String, _ pattern: String) -> Bool {
        let parts = pattern.split(separator: "*", omittingEmptySubsequences: false)
        guard parts.count > 1, let first = parts.first, let last = parts.last else {
            return line == pattern
        }
        guard line.hasPrefix(first) else { return false }
        var rest = line.dropFirst(first.count)
        for part in parts.dropFirst().dropLast() where !part.isEmpty {
            guard let range = rest.range(of: part) else { return false }
            rest = rest[range.upperBound...]
        }
        return rest.count >= last.count && rest.hasSuffix(last)
    }
}
