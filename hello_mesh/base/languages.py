"""The greetings of the demo, one for each language index: the last hop sends them, the client checks them."""

HELLOS = ("Hello", "Bonjour", "Hola", "こんにちは", "Ciao", "안녕하세요")
