"""One HTML file about many runs: no server, no network. sources.py finds them, payload.py packs them, page/ shows them."""
