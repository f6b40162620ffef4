// A folder of the bench's own.

import Glibc

/// Makes folders that nobody else has; whoever asks for one removes it.
enum TemporaryFolder {
    static func make() throws -> String {
        var template = Array("/tmp/smalloc-bench-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw BenchError.last("mkdtemp") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
