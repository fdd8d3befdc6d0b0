"""gRPC for the model server, without grpc: HTTP/2 (``http2``), header blocks (``headers``), calls (``call``)."""
