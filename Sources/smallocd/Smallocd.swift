@main
struct Smallocd {
    static func main() {}
}
