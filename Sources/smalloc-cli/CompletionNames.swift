// Names of allocations for the shells' completions: soon, or not at all.

import ArgumentParser
import Glibc
import Smalloc

/// The time in which a shell gets its candidates, or none.
enum CompletionDeadline {
    /// Begins; the tool ends with nothing said when it is over.
    static func start() {
        let asked = getenv("SMALLOC_COMPLETION_TIMEOUT").flatMap { Double(String(cString: $0)) }
        let milliseconds = asked.flatMap { (1...60_000).contains($0) ? $0 : nil } ?? 100
        TimeLimit.start(seconds: milliseconds / 1000, message: "", exitCode: 0)
    }

    /// The candidates are there, and must not be cut short.
    static func end() { _ = TimeLimit.pause() }
}

extension CompletionKind {
    /// Names of allocations, asked of the daemon that the command line so far leads to.
    static var allocation: CompletionKind {
        .custom { words, _, prefix in
            defer { CompletionDeadline.end() }
            var options = Smalloc.Options()
            options.software = "smalloc-cli \(version)"
            guard let daemon = try? Smalloc(address(words), options: options),
                var pages = try? daemon.pages(prefix, limit: 256)
            else { return [] }
            var names: [String] = []
            while names.count < 1000, let page = try? pages.next()?.get() {
                names += page.map(\.name)
            }
            return names.sorted()
        }
    }

    private static func address(_ words: [String]) -> String? {
        for (index, word) in words.enumerated().reversed() {
            if word.hasPrefix("--address=") { return String(word.dropFirst(10)) }
            if word == "--address", index + 1 < words.count { return words[index + 1] }
        }
        return nil
    }
}
