"""The file of a comune that joins: whole, in the words of all comuni, and marked where only the comune knows."""

import re

from alerting.authorities.checkup import TO_FILL_IN
from alerting.domain.recipients import phone
from geo.names import slug

PREFIX = re.compile(r"comune di ", re.IGNORECASE)


def code_of(name: str) -> str:
    """`Comune di Buti` → `buti`: what its file is called."""
    return slug(PREFIX.sub("", name, count=1))


def skeleton(name: str, istat: str, number: str) -> str:
    """What `comune new` writes. Raises AddressError for a number nobody has."""
    code = code_of(name)
    called = PREFIX.sub("", name, count=1)
    return (
        FILE.format(
            name=name, istat=istat, number=phone(number).e164, code=code, called=called, site=code, mark=TO_FILL_IN
        )
        .replace("«", "{")
        .replace("»", "}")
    )


FILE = '''\
# {name}. Ogni riga con {mark} aspetta un valore vero: scrivilo e togli la scritta.
# Poi: python -m alerting comune check {code}.toml --online

name = "{name}"
istat = "{istat}"
# Il mittente dei messaggi CAP: un indirizzo del comune, che nessun altro ha.
sender = "protezionecivile@comune.{site}.it"  # {mark}: il dominio vero del comune
warning_zones = ["Tosc-A4"]  # {mark}: la zona di allerta, come la chiama la Protezione civile
# true se qualcuno legge ciò che i cittadini scrivono a questo numero.
two_way = false
language = "it"

# Dove il cittadino viene ascoltato: lo dicono le risposte.
[contact]
phone = "0500 000000"  # {mark}: il telefono del comune
email = "urp@comune.{site}.it"  # {mark}: la e-mail del comune

# L'informativa che si accetta iscrivendosi. Quando cambia il testo, cambia version.
[policy]
url = "https://www.comune.{site}.it/avvisi/informativa"  # {mark}: la pagina vera
version = "1"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"  # {mark}: l'impronta, da `sha256sum`

# Le parole stampate sui manifesti. Maiuscole, accenti, saluti ed emoji non contano.
[keywords]
join = "ATTIVA"
leave = "DISATTIVA"

[texts]
welcome = """
«name»: iscrizione avvenuta, da ora ricevi gli avvisi del Comune. È gratuito e nessuno vede il tuo numero; \\
informativa: «policy». Dicci dove abiti: scrivi "zona" e il nome. Per cancellarti scrivi «leave»."""
already_subscribed = """
«name»: sei già iscritto, non serve altro. Per cancellarti scrivi «leave»."""
goodbye = """
«name»: iscrizione cancellata, il tuo contatto non è più in elenco. Se cambi idea scrivi «join»."""
not_subscribed = """
«name»: questo contatto non risulta iscritto. Per iscriverti scrivi «join»."""
help = """
«name»: qui arrivano gli avvisi del Comune. Scrivi «join» per iscriverti, «leave» per cancellarti, "zone" per dire \\
dove abiti. Per parlare con noi: «phone», «email». In caso di pericolo chiama il 112."""
not_read = """
«name»: questo numero invia soltanto avvisi. Chiama «phone» o scrivi a «email». In caso di pericolo chiama il 112."""
ask_join = """
«name»: vuoi iscriverti? Rispondi soltanto «join». Finché non lo fai non cambia nulla."""
ask_leave = """
«name»: vuoi cancellarti? Rispondi soltanto «leave». Finché non lo fai non cambia nulla."""
place_kept = """
«name»: fatto, riceverai gli avvisi che riguardano «luoghi». Per cambiare scrivi "zone"."""
place_which = """
«name»: intendi «luoghi»? Rispondi "«zona»" e il nome intero. Finché non lo fai non cambia nulla."""
place_point_kept = """
«name»: abbiamo la tua posizione, sei a «luogo». Se preferisci che teniamo soltanto il nome scrivi "zona «luogo»". \\
Ora sappiamo: «luoghi»."""
place_outside = """
«name»: quella posizione è fuori dal nostro territorio e non l'abbiamo tenuta. Ricevi gli avvisi per «luoghi»."""
place_unknown = """
«name»: non conosciamo questa zona. Puoi scrivere: «frazioni». Intanto non cambia nulla."""
places_known = """
«name»: ricevi gli avvisi per «luoghi». Per dire dove abiti scrivi "zona" e il nome; per toglierne una "togli zona" e \\
il nome. I nomi sono: «frazioni»."""
place_forgotten = """
«name»: fatto, quel luogo è tolto. Ora ricevi gli avvisi per «luoghi»."""
choices_kept = """
«name»: fatto, d'ora in poi: «scelte». Le emergenze arrivano sempre. Per rivedere tutto scrivi "cosa sai di me"."""
choices_known = """
«name»: di te sappiamo soltanto questo.
«scelte»
Si cambia scrivendo "solo emergenze", "no eventi", "tutto", "silenzio dalle 22 alle 7" o "lingua inglese"; i luoghi \\
con "zone". Oppure da questa pagina, che vale 7 giorni: «link»
Per cancellarti scrivi «leave»."""
choices_how = """
«name»: per scegliere scrivi per esempio "solo emergenze", "no eventi", "tutto", "silenzio dalle 22 alle 7" o "lingua \\
inglese". Per ora non cambia nulla."""
emergencies_always = """
«name»: le emergenze non si possono togliere, servono a proteggerti. Per non ricevere più nulla rispondi soltanto \\
«leave». Per ora non cambia nulla."""
nothing_known = """
«name»: di questo contatto non abbiamo nulla. Per iscriverti scrivi «join»."""
my_data = """
«name»: qui trovi tutto quello che sappiamo di te, per 7 giorni: «link»
Non darlo ad altri. Per farti cancellare scrivi «leave»."""
my_data_elsewhere = """
«name»: per avere tutto quello che sappiamo di te chiedilo al «phone». Per farti cancellare scrivi «leave»."""
attachment = """
«name»: qui non possiamo ascoltare vocali né vedere immagini. Scrivi «join» per iscriverti, «leave» per cancellarti; \\
per una segnalazione chiama «phone» o scrivi a «email»."""

[[channels]]
name = "whatsapp.{code}"
channel = "whatsapp"
per_second = 80
identity = "{number}"

[channels.settings]
phone_number_id = "100000000000000"  # {mark}: l'ID del numero, dal pannello di Meta
template = "avviso_comune"
template_language = "it"

# Il confine: punti di latitudine e longitudine, oppure importa quello dell'ISTAT con python -m geo import.
[territory]
version = 1
demonstration = true
source = "{name}"
licence = "CC-BY-4.0"
outline = [[43.70, 10.50], [43.70, 10.52], [43.72, 10.52], [43.72, 10.50]]  # {mark}: il confine

[[territory.frazioni]]
code = "capoluogo"
name = "{called} capoluogo"
outline = [[43.70, 10.50], [43.70, 10.51], [43.71, 10.51], [43.71, 10.50]]  # {mark}: le frazioni, una per una
'''
