"""What the server, the client and the local mesh share: the wire, the headers, the hop report."""
