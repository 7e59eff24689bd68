"""The verbs of the command line, one short function each, by what they are about; ``tare.command`` lists them."""
