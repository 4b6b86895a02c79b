"""What a person asks of nodes: forget content, or bring it onto nodes before it is asked for. Here and on other members."""
