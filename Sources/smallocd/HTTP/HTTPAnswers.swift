// Which document an HTTP request gets, and what every answer says of itself.

import CMicroHTTPD
import Glibc
import SmallocCore
import SmallocSystem
import SmallocWire
import Synchronization

/// Answers requests, on the thread of the HTTP listener.
final class HTTPAnswers: @unchecked Sendable {
    /// The daemon stops.
    let isStopping = Atomic<Bool>(false)
    private let documents: HTTPDocuments
    /// The values of `Host` that are answered; nil: any, as no browser reaches a Unix socket.
    private let hosts: [String]?
    private let policy: String
    private var givesWay = false

    /// - Parameter port: Over TCP, where it listens.
    init(_ documents: HTTPDocuments, port: UInt16?) {
        self.documents = documents
        hosts = port.map { port in
            let names = ["127.0.0.1", "[::1]", "localhost"]
            return names.map { "\($0):\(port)" } + (port == 80 ? names : [])
        }
        policy = HTTPAnswers.pagePolicy(PackageResources.index_html)
    }

    /// What the page may do, as it says itself, and that it stands in no frame.
    static func pagePolicy(_ page: [UInt8]) -> String {
        let text = String(decoding: page, as: UTF8.self)
        let mark = "http-equiv=\"Content-Security-Policy\" content=\""
        guard let start = text.firstRange(of: mark)?.upperBound else {
            return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        }
        return text[start...].prefix { $0 != "\"" && $0.isASCII } + "; frame-ancestors 'none'"
    }

    // MARK: Routes

    func answer(_ connection: OpaquePointer, _ path: String, _ method: String) -> MHD_Result {
        if !givesWay {
            givesWay = true
            // The loops come first.
            Yielding.giveWay()
        }
        guard isWelcome(connection) else {
            return refuse(
                connection, 403,
                "The Host header must name 127.0.0.1, [::1] or localhost, and the port."
            )
        }
        guard method == "GET" || method == "HEAD" else {
            return refuse(connection, 405, "Only GET and HEAD are answered here.")
        }
        switch path {
        case "/healthz":
            return isStopping.load(ordering: .relaxed)
                ? refuse(connection, 503, "stopping") : send(connection, 200, text: "ok\n")
        case "/metrics":
            let isOpenMetrics = accepts(connection, "application/openmetrics-text")
            return send(
                connection, MetricsText.mediaType(isOpenMetrics: isOpenMetrics),
                documents.metrics(isOpenMetrics: isOpenMetrics))
        case "/stats.json":
            return send(connection, HTTPAnswers.json, documents.stats())
        case "/", "/namespaces.json", "/allocations.json", "/clients.json", "/slowlog.json":
            guard documents.tellsNames else {
                return refuse(
                    connection, 403,
                    "Names are told over a Unix socket, or with the setting http-names: yes.")
            }
            return answerNames(connection, path)
        default:
            return refuse(connection, 404, "There is nothing here.")
        }
    }

    private func answerNames(_ connection: OpaquePointer, _ path: String) -> MHD_Result {
        switch path {
        case "/": return sendPage(connection)
        case "/namespaces.json":
            return send(connection, HTTPAnswers.json, documents.namespacesDocument())
        case "/clients.json": return send(connection, HTTPAnswers.json, documents.clients())
        case "/slowlog.json": return send(connection, HTTPAnswers.json, documents.slowLog())
        default: return answerAllocations(connection)
        }
    }

    private func answerAllocations(_ connection: OpaquePointer) -> MHD_Result {
        let order: AllocationTable.Order
        switch argument(connection, "sort") {
        case nil, "size": order = .size
        case "age": order = .age
        default: return refuse(connection, 400, "sort is size or age.")
        }
        var limit = 100
        if let text = argument(connection, "limit") {
            guard let number = HTTPAnswers.number(text), number >= 1 else {
                return refuse(connection, 400, "limit is a whole number from 1.")
            }
            limit = min(number, AllocationTable.countMax)
        }
        let prefix = Array((argument(connection, "prefix") ?? "").utf8)
        guard prefix.count <= Limits.nameSizeMax else {
            return refuse(connection, 400, "prefix is longer than any name.")
        }
        return send(
            connection, HTTPAnswers.json,
            documents.allocations(order, limit: limit, prefix: prefix))
    }

    private static let json = "application/json"

    /// A whole number of few digits.
    private static func number(_ text: String) -> Int? {
        guard text.utf8.count <= 9, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }

    // MARK: Requests

    /// Whether the request was meant for this listener: a page of another site, whose name leads
    /// here by then, must not read anything.
    private func isWelcome(_ connection: OpaquePointer) -> Bool {
        guard let hosts else { return true }
        var found: (String?, count: Int) = (nil, 0)
        withUnsafeMutablePointer(to: &found) { found in
            _ = MHD_get_connection_values(connection, smalloc_http_header, httpHostFound, found)
        }
        guard found.count == 1, let host = found.0?.lowercased() else { return false }
        return hosts.contains(host)
    }

    private func argument(_ connection: OpaquePointer, _ key: String) -> String? {
        MHD_lookup_connection_value(connection, smalloc_http_argument, key)
            .map { String(cString: $0) }
    }

    private func accepts(_ connection: OpaquePointer, _ type: String) -> Bool {
        guard let header = MHD_lookup_connection_value(connection, smalloc_http_header, "Accept")
        else { return false }
        return String(cString: header).lowercased().contains(type)
    }

    // MARK: Answers

    private func sendPage(_ connection: OpaquePointer) -> MHD_Result {
        PackageResources.index_html.withUnsafeBytes { page in
            // It lives as long as the process.
            let response = MHD_create_response_from_buffer(
                page.count, UnsafeMutableRawPointer(mutating: page.baseAddress),
                smalloc_http_copies)
            return queue(
                connection, 200, "text/html; charset=utf-8", response,
                [("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")])
        }
    }

    /// Sends a document, or says that there is no memory for it.
    private func send(
        _ connection: OpaquePointer, _ type: String, _ document: consuming Output?
    ) -> MHD_Result {
        guard var document, let (base, count) = document.detach() else {
            return refuse(connection, 503, "There is no memory for this at the moment.")
        }
        let response = MHD_create_response_from_buffer(count, base, smalloc_http_frees)
        if response == nil { free(base) }
        return queue(connection, 200, type, response)
    }

    private func refuse(
        _ connection: OpaquePointer, _ status: UInt32, _ text: String
    ) -> MHD_Result { send(connection, status, text: text + "\n") }

    private func send(
        _ connection: OpaquePointer, _ status: UInt32, text: String
    ) -> MHD_Result {
        var text = text
        let response = text.withUTF8 { bytes in
            MHD_create_response_from_buffer(
                bytes.count, UnsafeMutableRawPointer(mutating: bytes.baseAddress),
                smalloc_http_copies)
        }
        return queue(
            connection, status, "text/plain; charset=utf-8", response,
            status == 405 ? [("Allow", "GET, HEAD")] : [])
    }

    /// Without a response there is no memory for one, and the connection is closed.
    private func queue(
        _ connection: OpaquePointer, _ status: UInt32, _ type: String,
        _ response: OpaquePointer?, _ more: [(String, String)] = []
    ) -> MHD_Result {
        guard let response else { return smalloc_http_no }
        defer { MHD_destroy_response(response) }
        let headers =
            [
                ("Content-Type", type), ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
            ] + more
        for (name, value) in headers {
            guard MHD_add_response_header(response, name, value) == smalloc_http_yes else {
                return smalloc_http_no
            }
        }
        return MHD_queue_response(connection, status, response)
    }
}

private func httpHostFound(
    _ context: UnsafeMutableRawPointer?, _ kind: MHD_ValueKind, _ key: UnsafePointer<CChar>?,
    _ value: UnsafePointer<CChar>?
) -> MHD_Result {
    guard let found = context?.assumingMemoryBound(to: (String?, count: Int).self), let key else {
        return smalloc_http_no
    }
    guard strcasecmp(key, "Host") == 0 else { return smalloc_http_yes }
    found.pointee = (value.map { String(cString: $0) }, count: found.pointee.count + 1)
    return smalloc_http_yes
}
