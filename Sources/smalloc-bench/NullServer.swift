import ArgumentParser
import CBench
import Foundation

/// Started by the bench itself: answers every so many bytes with the same reply.
struct NullServer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "null-server", abstract: "Only answers (started by the bench itself).",
        shouldDisplay: false)

    @Option(help: "Unix socket to listen at.") var path: String
    @Option(help: "Bytes of a request.") var requestSize: Int
    @Option(help: "File that holds the reply.") var reply: String
    @Option(help: "Where requests and replies carry a cookie; -1: nowhere.")
    var cookieOffset: Int = -1

    func run() throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: reply))
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let bound = Address.unix(path).withSocketAddress { address, size, _ in
            bind(listener, address, size) == 0 && listen(listener, 1024) == 0
        }
        guard bound else { throw BenchError.last("bind") }
        let result = bytes.withUnsafeBytes {
            cbench_null_server(listener, requestSize, $0.baseAddress, $0.count, cookieOffset)
        }
        if result != 0 { throw BenchError.last("null server") }
    }
}
