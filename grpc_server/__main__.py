from grpc_server.cli import main

main()
